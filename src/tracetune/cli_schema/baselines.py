"""A cheap baseline: which command do the words of the request come nearest to."""

from __future__ import annotations

import math
import re
from collections import Counter

from tracetune.cli_schema.clauses import singular
from tracetune.cli_schema.objects import answer_text, command_object
from tracetune.cli_schema.schema import Argument, CliSchema, Place

_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"(?<![\w.])#?(\d{1,15})(?![\w.])")


class KeywordMatcher:
    """Answers with the command whose words in the schema are in the request.

    Names count more than descriptions, rare words more than common ones. Values of enums are taken
    from the request, a number goes to the first integer that is required or positional. It reads
    nothing but the schema, so it shows what a model adds.

    Args:
        schema: The program.
    """

    def __init__(self, schema: CliSchema) -> None:
        self._schema = schema
        self._places = schema.places()
        self._words = [_weights(place) for place in self._places]
        counts = Counter(word for weights in self._words for word in weights)
        self._rarity = {
            word: math.log(1 + len(self._places) / count) for word, count in counts.items()
        }

    def answer(self, request: str) -> str:
        """The object as a model would answer it; it may lack a required argument."""
        said = _words(request)
        scores = [
            sum(weight * self._rarity[word] for word, weight in weights.items() if word in said)
            for weights in self._words
        ]
        place = self._places[max(range(len(scores)), key=lambda i: (scores[i], -i))]
        flags = [flag.name for flag in place.spec.flags if _words(flag.name) <= said]
        return answer_text(command_object(place, self._arguments(place, request, said), flags))

    def _arguments(self, place: Place, request: str, said: set[str]) -> dict[str, object]:
        found: dict[str, object] = {}
        number = _NUMBER.search(request)
        for argument in place.spec.args:
            if argument.type == "enum":
                value = _value(argument, said)
                if value is not None:
                    found[argument.name] = value
            elif number and argument.type == "integer" and _is_main(argument):
                found[argument.name] = int(number[1])
                number = None
        return found


def _is_main(argument: Argument) -> bool:
    return argument.required or argument.positional


def _value(argument: Argument, said: set[str]) -> str | None:
    for value in argument.values:
        words = _words(value)
        if words and words <= said:
            return value
    return None


def _words(text: str) -> set[str]:
    return {singular(word) for word in _WORD.findall(text.casefold())}


def _weights(place: Place) -> dict[str, float]:
    weights: dict[str, float] = {}
    for text, weight in (
        (place.group.description, 0.5),
        (place.spec.description, 1.0),
        (" ".join((place.command, *place.group.aliases)), 2.0),
        (" ".join((place.verb, *place.spec.aliases)), 2.0),
    ):
        weights |= dict.fromkeys(_words(text), weight)
    return weights
