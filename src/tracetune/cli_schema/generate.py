"""Writing examples in rounds: ask, check, remove duplicates, ask again for what is short."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from tracetune.cli_schema.diversity import Diversity, measure
from tracetune.cli_schema.options import CliGenerationOptions
from tracetune.cli_schema.phrasing import Phrases
from tracetune.cli_schema.plan import Cell, make_plan
from tracetune.cli_schema.requests import requests_for
from tracetune.cli_schema.schema import CliSchema
from tracetune.cli_schema.screen import REASONS, Rejected, Screen, Written
from tracetune.llm import TextRequest, TextResult, TextWriter
from tracetune.llm.tally import Tally
from tracetune.records import Record

logger = logging.getLogger("tracetune")


class CliGenerationReport(Record):
    """What was asked for, what came, what was kept.

    Attributes:
        writer: Who wrote.
        wanted: ``num_examples``.
        examples: Examples kept.
        rounds: Rounds of asking.
        requests: Requests sent or taken from kept replies.
        outcomes: Requests by what became of them.
        problems: Reasons of requests without an answer, each once.
        written: Items in the answers.
        rejected: Items that are no examples, by reason.
        short: Cells with fewer examples than planned, and how many are missing. Others of the same
            target may have more in their place.
        by_target: Examples per command or subcommand, and clarifications.
        by_style: Examples per style.
        with_context: Examples with a context.
        diversity: How different they are.
        usd: Estimated cost of the replies, whenever they were paid.
        tokens: Tokens read and written by the model for them.
    """

    writer: str
    wanted: int
    examples: int
    rounds: int
    requests: int
    outcomes: dict[str, int]
    problems: list[str]
    written: int
    rejected: dict[str, int]
    short: dict[str, int]
    by_target: dict[str, int]
    by_style: dict[str, int]
    with_context: int
    diversity: Diversity
    usd: float = Field(ge=0)
    tokens: dict[str, int]


@dataclass(frozen=True)
class Generated:
    """What a generation gave.

    Attributes:
        examples: In the order of the plan.
        rejected: Everything else that was written, with its reason.
        report: Counts.
    """

    examples: list[Written]
    rejected: list[Rejected]
    report: CliGenerationReport


def first_requests(
    schema: CliSchema, *, options: CliGenerationOptions, seed: int, attempt: int = 0
) -> list[TextRequest]:
    """The requests of the first round, for an estimate of the cost before anything is asked."""
    asked = _asked(schema, make_plan(schema, options, seed=seed), options, seed, attempt, 1)
    return [request for request, _ in asked]


def generate(
    schema: CliSchema,
    writer: TextWriter,
    *,
    options: CliGenerationOptions,
    seed: int,
    attempt: int = 0,
) -> Generated:
    """Examples for a program.

    Every round asks for what the cells still lack, until nothing is missing, a round brings nothing
    new (a spent budget does), or the rounds are used up. The same replies give the same examples,
    so an interrupted generation is resumed by running it again: the writer keeps its replies.

    Args:
        schema: The program.
        writer: Who writes.
        options: Number, shares, thresholds.
        seed: Seed of the plan and of the forms.
        attempt: Another number asks for everything anew.
    """
    plan = make_plan(schema, options, seed=seed)
    order = {cell.id: place for place, cell in enumerate(plan)}
    screen, tally = Screen(schema, options), Tally()
    kept: list[Written] = []
    rounds = 0
    for done in _rounds(schema, writer, plan, screen, tally, options, seed, attempt):
        rounds += 1
        kept += done.found
        logger.info(
            "Round %d: %d requests to the %s, %d examples kept, %d still missing",
            rounds,
            done.requests,
            writer.label,
            len(done.found),
            done.missing,
        )
    kept.sort(key=lambda row: order[row.cell])
    counts = Counter(row.cell for row in kept)
    short = {c.id: c.count - counts[c.id] for c in plan if counts[c.id] < c.count}
    report = _report(schema, writer.label, options, kept, screen, tally, short, rounds, seed)
    return Generated(examples=kept, rejected=screen.rejected, report=report)


def is_complete(
    schema: CliSchema,
    writer: TextWriter,
    *,
    options: CliGenerationOptions,
    seed: int,
    attempt: int,
) -> bool:
    """Whether :func:`generate` would take everything from kept replies, in all its rounds.

    Nothing is sent: the rounds are gone through until one holds a request without a kept reply.
    """
    plan = make_plan(schema, options, seed=seed)
    screen, kept = Screen(schema, options), _OnlyKept(writer)
    try:
        for _ in _rounds(schema, kept, plan, screen, Tally(), options, seed, attempt):
            pass
    except _NotKeptError:
        return False
    return True


class _NotKeptError(Exception):
    """A request has no kept reply."""


class _OnlyKept:
    """A writer that gives kept replies and sends nothing."""

    def __init__(self, writer: TextWriter) -> None:
        self._writer = writer

    @property
    def label(self) -> str:
        return self._writer.label

    def known(self, requests: Sequence[TextRequest]) -> set[str]:
        return self._writer.known(requests)

    def write(self, requests: Sequence[TextRequest]) -> list[TextResult]:
        if len(self.known(requests)) < len(requests):
            raise _NotKeptError
        return self._writer.write(requests)


@dataclass(frozen=True)
class _Round:
    """What a round asked and found, and how many examples are missing after it."""

    requests: int
    found: list[Written]
    missing: int


def _rounds(
    schema: CliSchema,
    writer: TextWriter,
    plan: Sequence[Cell],
    screen: Screen,
    tally: Tally,
    options: CliGenerationOptions,
    seed: int,
    attempt: int,
) -> Iterator[_Round]:
    """Asks round by round, until nothing is missing, a round brings nothing, or all are used up."""
    missing = {cell.id: cell for cell in plan}
    for number in range(1, options.rounds + 1):
        if not missing:
            return
        asked = _asked(schema, list(missing.values()), options, seed, attempt, number)
        found = _ask(asked, writer, screen, tally, missing)
        yield _Round(len(asked), found, sum(cell.count for cell in missing.values()))
        if not found:
            return
        missing = _moved(plan, missing, {row.cell for row in found})


def _moved(plan: Sequence[Cell], missing: dict[str, Cell], fruitful: set[str]) -> dict[str, Cell]:
    """What is missing, where it can be had.

    A cell that brought nothing in a round has no more to say. What it lacks goes to the other
    styles of the same target, with or without a context as before; it stays there if all are empty.
    """
    found = {name: cell.count for name, cell in missing.items()}
    empty = {name for name in missing if name not in fruitful}
    cells = {cell.id: cell for cell in plan}
    for name in sorted(empty):
        mine = cells[name]
        others = [
            cell.id
            for cell in plan
            if cell.id not in empty and (cell.target, cell.context) == (mine.target, mine.context)
        ]
        if others:
            count = found.pop(name)
            for place, other in enumerate(others):
                share = count // len(others) + (place < count % len(others))
                found[other] = found.get(other, 0) + share
    return {
        name: cells[name].model_copy(update={"count": count})
        for name, count in found.items()
        if count
    }


def _asked(
    schema: CliSchema,
    cells: Sequence[Cell],
    options: CliGenerationOptions,
    seed: int,
    attempt: int,
    number: int,
) -> list[tuple[TextRequest, Cell]]:
    return requests_for(
        schema,
        cells,
        phrases=Phrases(schema),
        per_request=options.per_request,
        mark=f"cli:a{attempt}r{number}",
        seed=seed,
    )


def _ask(
    asked: Sequence[tuple[TextRequest, Cell]],
    writer: TextWriter,
    screen: Screen,
    tally: Tally,
    missing: dict[str, Cell],
) -> list[Written]:
    """The examples of one round; ``missing`` goes down by what was found."""
    found = []
    results = writer.write([request for request, _ in asked])
    for (request, cell), result in zip(asked, results, strict=True):
        for raw in tally.items(result):
            left = missing.get(cell.id)
            if left is None:
                break
            row = screen.add(raw, cell, request.id)
            if row is None:
                continue
            found.append(row)
            if left.count == 1:
                del missing[cell.id]
            else:
                missing[cell.id] = left.model_copy(update={"count": left.count - 1})
    return found


def _report(
    schema: CliSchema,
    writer: str,
    options: CliGenerationOptions,
    kept: Sequence[Written],
    screen: Screen,
    tally: Tally,
    short: dict[str, int],
    rounds: int,
    seed: int,
) -> CliGenerationReport:
    reasons = Counter(row.reason for row in screen.rejected)
    return CliGenerationReport(
        writer=writer,
        wanted=options.num_examples,
        examples=len(kept),
        rounds=rounds,
        requests=tally.outcomes.total(),
        outcomes=dict(sorted(tally.outcomes.items())),
        problems=list(tally.problems),
        written=tally.written,
        rejected={reason: reasons[reason] for reason in REASONS},
        short=short,
        by_target=dict(sorted(Counter(row.target for row in kept).items())),
        by_style=dict(sorted(Counter(row.style for row in kept).items())),
        with_context=sum(row.context is not None for row in kept),
        diversity=measure(schema, kept, seed=seed),
        usd=round(tally.usd, 6),
        tokens=dict(sorted(tally.tokens.items())),
    )
