"""Writing candidates in rounds: ask, screen, ask again for what is short."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from tracetune.llm import TextRequest, TextResult, TextWriter
from tracetune.records import Example, Record, ReviewItem
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.synthesis.options import SynthesisOptions
from tracetune.telemetry.synthesis.phrasing import Material
from tracetune.telemetry.synthesis.plan import Cell, Kind, Rewrite, SynthesisPlan
from tracetune.telemetry.synthesis.requests import requests_for, rewrites_for
from tracetune.telemetry.synthesis.screen import Screen

logger = logging.getLogger("tracetune")


class GenerationReport(Record):
    """What was asked for, what came, what was kept.

    Attributes:
        writer: Who wrote; empty if nobody was asked.
        requests: Requests sent or taken from kept replies.
        outcomes: Requests by what became of them.
        problems: Reasons of requests without an answer, each once.
        written: Items in the answers.
        dropped: Items that are no candidates, by reason.
        candidates: Items kept for review.
        again: How many of them replace rejected ones.
        short: Cells with fewer candidates than planned, and how many are missing.
        rounds: Rounds of asking.
        planned_requests: Requests that a dry run would send in its first round.
        most_usd: What they would cost at most.
        usd: Estimated cost of the replies, whenever they were paid.
        tokens: Tokens read and written by the model for them.
    """

    writer: str = ""
    requests: int = 0
    outcomes: dict[str, int] = Field(default_factory=dict)
    problems: list[str] = Field(default_factory=list)
    written: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    candidates: int = 0
    again: int = 0
    short: dict[str, int] = Field(default_factory=dict)
    rounds: int = 0
    planned_requests: int = 0
    most_usd: float = 0.0
    usd: float = 0.0
    tokens: dict[str, int] = Field(default_factory=dict)


class _Tally:
    """Counts over all requests."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.problems: dict[str, None] = {}
        self.tokens: Counter[str] = Counter()
        self.usd = 0.0
        self.written = 0

    def items(self, result: TextResult) -> list[object]:
        """The items in a result, counted."""
        self.outcomes[result.outcome] += 1
        self.tokens.update(input=result.usage.input_tokens, output=result.usage.output_tokens)
        self.usd += result.usd
        if result.outcome != "answered":
            self.problems[f"{result.outcome}: {result.reason}"] = None
            return []
        items = list(result.value["items"])
        self.written += len(items)
        return items


def plan_requests(
    plan: SynthesisPlan,
    *,
    train: Sequence[Example],
    telemetry: TelemetryOptions,
    options: SynthesisOptions,
    seed: int,
) -> list[TextRequest]:
    """The requests of the first round, as :func:`write_candidates` would send them."""
    material = Material(train, telemetry.output)
    again = rewrites_for(plan.rewrites, material=material, telemetry=telemetry, seed=seed)
    new = requests_for(
        plan.cells,
        style=train,
        material=material,
        telemetry=telemetry,
        options=options,
        mark=_mark(plan, 1),
        seed=seed,
    )
    return [*(request for request, _, _ in again), *(request for request, _ in new)]


def _mark(plan: SynthesisPlan, number: int) -> str:
    """Part of the ids of requests: a later run or round asks for something new."""
    return f"s{plan.submitted}r{number}"


def write_candidates(
    plan: SynthesisPlan,
    *,
    writer: TextWriter,
    screen: Screen,
    train: Sequence[Example],
    telemetry: TelemetryOptions,
    options: SynthesisOptions,
    seed: int,
) -> tuple[list[ReviewItem], GenerationReport]:
    """Candidates for review, in the order of the plan.

    Rejected candidates are written anew first. Then every round asks for what the cells still
    lack, until nothing is missing, a round brings nothing new, or the rounds are used up.

    Args:
        plan: What is wanted.
        writer: Who writes.
        screen: What is kept.
        train: Real rows for training: style, and material of the offline generator.
        telemetry: Instruction and schema of the agent.
        options: Sizes.
        seed: Seed of the choice of style rows.

    Returns:
        The candidates, and the report.
    """
    material, tally = Material(train, telemetry.output), _Tally()
    kept = _rewrite(plan.rewrites, writer, screen, material, telemetry, tally, seed)
    again = len(kept)
    missing = {(cell.kind, cell.target, cell.against): cell.count for cell in plan.cells}
    rounds = 0
    while any(missing.values()) and rounds < options.rounds:
        rounds += 1
        cells = [
            Cell(kind=kind, target=target, against=against, count=count)
            for (kind, target, against), count in missing.items()
            if count
        ]
        asked = requests_for(
            cells,
            style=train,
            material=material,
            telemetry=telemetry,
            options=options,
            mark=_mark(plan, rounds),
            seed=seed,
        )
        found = _ask(asked, writer, screen, tally, missing)
        logger.info(
            "Round %d: %d requests to the %s, %d candidates kept, %d still missing",
            rounds,
            len(asked),
            writer.label,
            len(found),
            sum(missing.values()),
        )
        kept += found
        if not found:
            break
    short = {
        Cell(kind=kind, target=target, against=against, count=count).id: count
        for (kind, target, against), count in missing.items()
        if count
    }
    return kept, GenerationReport(
        writer=writer.label,
        requests=tally.outcomes.total(),
        outcomes=dict(sorted(tally.outcomes.items())),
        problems=list(tally.problems),
        written=tally.written,
        dropped=dict(screen.dropped),
        candidates=len(kept),
        again=again,
        short=short,
        rounds=rounds,
        usd=round(tally.usd, 6),
        tokens=dict(sorted(tally.tokens.items())),
    )


def _ask(
    asked: Sequence[tuple[TextRequest, Cell]],
    writer: TextWriter,
    screen: Screen,
    tally: _Tally,
    missing: dict[tuple[Kind, str, str], int],
) -> list[ReviewItem]:
    """The candidates of one round; ``missing`` goes down by what was found."""
    found = []
    results = writer.write([request for request, _ in asked])
    for (request, cell), result in zip(asked, results, strict=True):
        key = (cell.kind, cell.target, cell.against)
        for raw in tally.items(result):
            if not missing[key]:
                break
            item = screen.add(raw, cell, request.id)
            if item is not None:
                found.append(item)
                missing[key] -= 1
    return found


def _rewrite(
    rewrites: Sequence[Rewrite],
    writer: TextWriter,
    screen: Screen,
    material: Material,
    telemetry: TelemetryOptions,
    tally: _Tally,
    seed: int,
) -> list[ReviewItem]:
    """For each rejected candidate the first new one that passes the screen."""
    found = []
    asked = rewrites_for(rewrites, material=material, telemetry=telemetry, seed=seed)
    results = writer.write([request for request, _, _ in asked]) if asked else []
    for (request, cell, rewrite), result in zip(asked, results, strict=True):
        for raw in tally.items(result):
            item = screen.add(raw, cell, request.id, rewrite)
            if item is not None:
                found.append(item)
                break
    return found
