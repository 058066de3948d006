"""How different the written examples are, and whether that is enough."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from tracetune.cli_schema.clauses import spoken
from tracetune.cli_schema.options import CliGenerationOptions
from tracetune.cli_schema.schema import CliSchema
from tracetune.cli_schema.screen import Written, normal
from tracetune.errors import GateError
from tracetune.records import Record

_SAMPLE = 200
_ORDER = 4


class Diversity(Record):
    """How different examples are; shares are from 0 to 1, None without examples.

    Attributes:
        distinct: Share of requests that differ beyond case, spaces and numbers.
        self_bleu: Mean BLEU-4 of a request against the others, in a seeded sample of 200; lower is
            more varied (Zhu et al. 2018, "Texygen").
        literal: Share of command examples whose request says the name of the subcommand.
        largest: Largest share of the command examples on one command or subcommand.
        largest_target: Which one that is.
        coverage: Share of commands and subcommands with an example.
        uncovered: Those without one.
    """

    distinct: float | None
    self_bleu: float | None
    literal: float | None
    largest: float | None
    largest_target: str = ""
    coverage: float = Field(ge=0, le=1)
    uncovered: list[str] = Field(default_factory=list)


def measure(schema: CliSchema, rows: Sequence[Written], *, seed: int = 0) -> Diversity:
    """The diversity of examples."""
    commands = [row for row in rows if row.output["type"] == "command"]
    targets = Counter(row.target for row in commands)
    uncovered = [place.label for place in schema.places() if not targets[place.label]]
    largest = max(targets, key=lambda name: (targets[name], name), default="")
    requests = [row.request for row in rows]
    literal = sum(_is_literal(row) for row in commands)
    return Diversity(
        distinct=_share(len({normal(text) for text in requests}), len(requests)),
        self_bleu=self_bleu(requests, seed=seed),
        literal=_share(literal, len(commands)),
        largest=_share(targets[largest], len(commands)),
        largest_target=largest,
        coverage=round(1 - len(uncovered) / len(schema.places()), 4),
        uncovered=uncovered,
    )


def check(found: Diversity, schema: CliSchema, options: CliGenerationOptions) -> None:
    """Stops where the examples are too much alike.

    Raises:
        GateError: Too few distinct requests, too many on one subcommand, or subcommands without.
    """
    allowed = max(options.max_cell_share, 1.5 / len(schema.places()))
    wrong = []
    if found.distinct is None:
        wrong.append("there are no examples")
    elif found.distinct < options.min_distinct:
        wrong.append(
            f"only {found.distinct:.0%} of the requests differ beyond numbers "
            f"(min_distinct {options.min_distinct:.0%})"
        )
    if found.largest is not None and found.largest > allowed:
        wrong.append(
            f"{found.largest:.0%} of the commands are {found.largest_target!r} "
            f"(at most {allowed:.0%})"
        )
    if found.coverage < options.min_coverage:
        shown = ", ".join(found.uncovered[:5])
        wrong.append(
            f"{len(found.uncovered)} subcommands have no example: {shown} "
            f"(min_coverage {options.min_coverage:.0%})"
        )
    if wrong:
        raise GateError(
            "; ".join(wrong),
            where="cli.generation",
            remedy="write more examples (num_examples, rounds), give the schema hints "
            "(natural_language), or have a large model write (llm.provider)",
        )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _is_literal(row: Written) -> bool:
    """Whether a request says the name of the subcommand, as it is typed or as words."""
    name = row.output["subcommand"] or row.output["command"]
    said = row.request.casefold()
    return any(
        re.search(rf"(?<!\w){re.escape(form.casefold())}(?!\w)", said)
        for form in (name, spoken(name))
    )


def self_bleu(texts: Sequence[str], *, seed: int = 0) -> float | None:
    """Mean BLEU-4 of each text against all others, of a seeded sample of at most 200.

    Add-one smoothing from two words on; the closest length of the others is the reference length.

    Returns:
        None with fewer than two texts.
    """
    if len(texts) < 2:
        return None
    chosen = list(texts)
    if len(chosen) > _SAMPLE:
        chosen = random.Random(seed).sample(chosen, _SAMPLE)
    words = [normal(text).split() for text in chosen]
    grams = [[_grams(row, n) for n in range(1, _ORDER + 1)] for row in words]
    best = [_two_best([row[n] for row in grams]) for n in range(_ORDER)]
    lengths = [len(row) for row in words]
    total = 0.0
    for i, row in enumerate(grams):
        logs = 0.0
        for n, counts in enumerate(row):
            clipped = sum(min(count, _without(best[n][gram], i)) for gram, count in counts.items())
            plus = int(n > 0)
            shared, whole = clipped + plus, counts.total() + plus
            if not shared:
                break
            logs += math.log(shared / whole) / _ORDER
        else:
            total += math.exp(logs) * _brevity(lengths, i)
    return round(total / len(words), 4)


def _grams(row: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(row[i : i + n]) for i in range(len(row) - n + 1))


_Best = tuple[int, int, int]


def _two_best(rows: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], _Best]:
    """n-gram → its largest count, the row that has it, and the largest count of the other rows."""
    found: dict[tuple[str, ...], _Best] = {}
    for i, row in enumerate(rows):
        for gram, count in row.items():
            first, owner, second = found.get(gram, (0, -1, 0))
            found[gram] = (count, i, first) if count > first else (first, owner, max(second, count))
    return found


def _without(best: _Best, row: int) -> int:
    first, owner, second = best
    return second if owner == row else first


def _brevity(lengths: Sequence[int], i: int) -> float:
    mine = lengths[i]
    if not mine:
        return 0.0
    others = [*lengths[:i], *lengths[i + 1 :]]
    closest = min(others, key=lambda other: (abs(other - mine), other))
    return 1.0 if mine >= closest else math.exp(1 - closest / mine)
