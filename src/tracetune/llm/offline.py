"""The offline generator: text from a grammar that a domain feeds with templates and real examples.

It needs no network and no key, and the same seed and request give the same text. It recombines
what it is given and knows nothing else: it follows no instruction. Reports name it as what it is.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from tracetune.errors import ConfigurationError
from tracetune.files import canonical_json, sha256_json
from tracetune.llm.contracts import Grammar, TextRequest, TextResult
from tracetune.llm.recombine import tidy

LABEL = "offline generator"

_SLOT = re.compile(r"\{([a-z_]+)(#\d+)?\}")
_MAX_DEPTH = 20
_DRAWS_PER_ITEM = 30
"""Draws without a new item after which a grammar counts as exhausted."""


class OfflineWriter:
    """Writes from the grammars of the requests.

    Args:
        seed: Seed of all draws; the id of a request is mixed in.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    @property
    def label(self) -> str:
        """``offline generator``."""
        return LABEL

    def known(self, requests: Sequence[TextRequest]) -> set[str]:
        """None: nothing is kept, because the same request gives the same text again."""
        return set()

    def write(self, requests: Sequence[TextRequest]) -> list[TextResult]:
        """One result per request: as many different items as asked for, or as the grammar holds.

        Raises:
            ConfigurationError: A grammar has an unknown or endless slot.
        """
        return [self._answer(request) for request in requests]

    def _answer(self, request: TextRequest) -> TextResult:
        import jsonschema

        if request.grammar is None:
            return TextResult(
                id=request.id,
                outcome="failed",
                reason="the offline generator has nothing to write from: no real row and no known "
                "name; llm.provider=anthropic can write it",
            )
        draw = random.Random(sha256_json([self._seed, request.id]))
        value = {request.grammar.key: expand(request.grammar, draw)}
        problem = jsonschema.exceptions.best_match(
            jsonschema.Draft202012Validator(request.answer_schema).iter_errors(value)
        )
        if problem is not None:
            return TextResult(id=request.id, outcome="invalid", reason=problem.message)
        return TextResult(id=request.id, outcome="answered", value=value)


def expand(grammar: Grammar, draw: random.Random) -> list[Any]:
    """Up to ``grammar.count`` different items; fewer if no new one is found any more.

    The forms take turns in a shuffled order, so that each is used before one is used twice.

    Raises:
        ConfigurationError: A slot is unknown, or slots lead into each other without end.
    """
    found: dict[str, Any] = {}
    order: list[Any] = []
    misses = 0
    while len(found) < grammar.count and misses < _DRAWS_PER_ITEM:
        if not order:
            order = draw.sample(grammar.items, len(grammar.items))
        item = _tidied(_fill(order.pop(), grammar, draw, {}, 0))
        key = canonical_json(item)
        misses = misses + 1 if key in found else 0
        found.setdefault(key, item)
    return list(found.values())


def _tidied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tidied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_tidied(inner) for inner in value]
    return tidy(value) if isinstance(value, str) else value


def _fill(
    form: Any, grammar: Grammar, draw: random.Random, chosen: dict[str, str], depth: int
) -> Any:
    """A JSON value with all slots filled; ``chosen`` holds the values of the item so far."""
    if isinstance(form, dict):
        return {key: _fill(value, grammar, draw, chosen, depth) for key, value in form.items()}
    if isinstance(form, list):
        return [_fill(value, grammar, draw, chosen, depth) for value in form]
    if not isinstance(form, str):
        return form
    if depth > _MAX_DEPTH:
        raise ConfigurationError(f"slots lead into each other without end: {form[:60]!r}")

    def value_of(slot: re.Match[str]) -> str:
        token, name = slot[0], slot[1]
        if token not in chosen:
            if name in grammar.values:
                chosen[token] = draw.choice(grammar.values[name])
            elif name in grammar.rules:
                alternative = draw.choice(grammar.rules[name])
                chosen[token] = _fill(alternative, grammar, draw, chosen, depth + 1)
            else:
                raise ConfigurationError(
                    f"there is no slot {token}", where=f"form {form[:60]!r} of a grammar"
                )
        return chosen[token]

    return _SLOT.sub(value_of, form)
