"""What the benchmarks of training share: a base model, rows, and jobs."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

from tracetune.records import Example, Message, Preference, make_example, make_preference
from tracetune.training import base as base_model
from tracetune.training.base import BaseModelRef
from tracetune.training.embedded_text import Writer, read_corpus
from tracetune.training.options import BaseModelOptions, EmbeddedRecipe

START = datetime(2026, 9, 1, tzinfo=UTC)
# Speed does not depend on what the weights have learned, so a short pretraining will do.
RECIPE = EmbeddedRecipe(conversations=200)


def make_base(cache: Path) -> BaseModelRef:
    """The model of the default shape, hardly trained."""
    return base_model.resolve(BaseModelOptions(), cache, RECIPE)


def make_rows(examples: int, pairs: int) -> tuple[list[Example], list[Preference]]:
    """Rows about everyday requests, as long as those of the sample."""
    writer, chance, kinds = Writer(11), random.Random(11), read_corpus().kinds
    names = sorted({kind.topic for kind in kinds})
    system = f'Choose the drawer: {", ".join(names)}. Answer with JSON: {{"drawer": NAME}}'

    def answer(name: str) -> list[Message]:
        return [Message(role="assistant", content=f'{{"drawer": "{name}"}}')]

    first: list[Example] = []
    second: list[Preference] = []
    for number in range(examples + pairs):
        kind = chance.choice(kinds)
        text = writer.request(kind)[0]
        shared = {
            "prompt": [Message(role="system", content=system), Message(role="user", content=text)],
            "source": "benchmark",
            "tenant": "demo",
            "ids": {"n": str(number)},
            "group": f"n:{number}",
            "created_at": START,
        }
        if number < examples:
            first.append(make_example(completion=answer(kind.topic), **shared))
        else:
            other = chance.choice([name for name in names if name != kind.topic])
            second.append(
                make_preference(chosen=answer(kind.topic), rejected=answer(other), **shared)
            )
    return first, second
