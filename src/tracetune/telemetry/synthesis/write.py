"""Writing candidates in rounds: ask, screen, ask again for what is short."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pydantic import Field

from tracetune.llm import TextRequest, TextResult, TextWriter
from tracetune.llm.tally import Tally
from tracetune.records import Example, Record, ReviewItem
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.synthesis.options import SynthesisOptions
from tracetune.telemetry.synthesis.phrasing import Material
from tracetune.telemetry.synthesis.plan import Cell, Kind, Rewrite, SynthesisPlan
from tracetune.telemetry.synthesis.requests import requests_for, rewrites_for
from tracetune.telemetry.synthesis.screen import Screen

logger = logging.getLogger("tracetune")

_MOST_ROUNDS = 100
_NOT_SENT = frozenset({"over_budget", "failed"})
"""Outcomes after which asking for something else would end the same way."""

CellKey = tuple[Kind, str, str]


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
        not_rewritten: Rejected candidates for which nothing usable came; the next run tries again.
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
    not_rewritten: list[str] = Field(default_factory=list)
    rounds: int = 0
    planned_requests: int = 0
    most_usd: float = 0.0
    usd: float = 0.0
    tokens: dict[str, int] = Field(default_factory=dict)


class _Work:
    """What is still to be written, and how it is asked for.

    Args:
        plan: What is wanted.
        train: Real rows for training: style, and material of the offline generator.
        telemetry: Instruction and schema of the agent.
        options: Sizes.
        seed: Seed of the choice of style rows.
    """

    def __init__(
        self,
        plan: SynthesisPlan,
        train: Sequence[Example],
        telemetry: TelemetryOptions,
        options: SynthesisOptions,
        seed: int,
    ) -> None:
        self._train, self._telemetry, self._options = train, telemetry, options
        self._material = Material(train, telemetry.output)
        self._submitted, self._seed = plan.submitted, seed
        self.missing: dict[CellKey, int] = {
            (cell.kind, cell.target, cell.against): cell.count for cell in plan.cells
        }
        self.rewrites = {rewrite.item.id: rewrite for rewrite in plan.rewrites}

    @property
    def left(self) -> int:
        """How many candidates are still to be written."""
        return sum(self.missing.values()) + len(self.rewrites)

    def cells(self) -> list[Cell]:
        """The cells that are short, with what they lack."""
        return [
            Cell(kind=kind, target=target, against=against, count=count)
            for (kind, target, against), count in self.missing.items()
            if count
        ]

    def requests(self, number: int) -> list[tuple[TextRequest, Cell, Rewrite | None]]:
        """What is asked for in a round; rejected candidates come first.

        A later run or round asks for something new: the ids of its requests are others.
        """
        mark = f"s{self._submitted}r{number}"
        again = rewrites_for(
            list(self.rewrites.values()),
            material=self._material,
            telemetry=self._telemetry,
            mark=mark,
            seed=self._seed,
        )
        new = requests_for(
            self.cells(),
            style=self._train,
            material=self._material,
            telemetry=self._telemetry,
            options=self._options,
            mark=mark,
            seed=self._seed,
        )
        return [*again, *((request, cell, None) for request, cell in new)]


def plan_requests(
    plan: SynthesisPlan,
    *,
    train: Sequence[Example],
    telemetry: TelemetryOptions,
    options: SynthesisOptions,
    seed: int,
) -> list[TextRequest]:
    """The requests of the first round, as :func:`write_candidates` would send them."""
    work = _Work(plan, train, telemetry, options, seed)
    return [request for request, _, _ in work.requests(1)]


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
    """Candidates for review, in the order in which they came.

    Every round asks for what is still lacking, until nothing is, the rounds are used up, or nothing
    more can be sent. A round whose requests were all asked in an earlier run, and which brings
    nothing, does not count: what was lost or refused then is not asked for again for ever.

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
    work, tally = _Work(plan, train, telemetry, options, seed), Tally()
    kept: list[ReviewItem] = []
    number = counted = 0
    while work.left and counted < options.rounds and number < _MOST_ROUNDS:
        number += 1
        asked = work.requests(number)
        known = writer.known([request for request, _, _ in asked])
        results = writer.write([request for request, _, _ in asked])
        found = _settle(asked, results, screen, work, tally)
        kept += found
        counted += bool(found) or len(known) < len(asked)
        logger.info(
            "Round %d: %d requests to the %s, %d candidates kept, %d still missing",
            number,
            len(asked),
            writer.label,
            len(found),
            work.left,
        )
        if all(result.outcome in _NOT_SENT for result in results):
            break
    return kept, GenerationReport(
        writer=writer.label,
        requests=tally.outcomes.total(),
        outcomes=dict(sorted(tally.outcomes.items())),
        problems=list(tally.problems),
        written=tally.written,
        dropped=dict(screen.dropped),
        candidates=len(kept),
        again=sum(item.attempt > 0 for item in kept),
        short={cell.id: cell.count for cell in work.cells()},
        not_rewritten=sorted(work.rewrites),
        rounds=number,
        usd=round(tally.usd, 6),
        tokens=dict(sorted(tally.tokens.items())),
    )


def _settle(
    asked: Sequence[tuple[TextRequest, Cell, Rewrite | None]],
    results: Sequence[TextResult],
    screen: Screen,
    work: _Work,
    tally: Tally,
) -> list[ReviewItem]:
    """The candidates of one round; what they fill is no longer missing."""
    found = []
    for (request, cell, rewrite), result in zip(asked, results, strict=True):
        key = (cell.kind, cell.target, cell.against)
        for raw in tally.items(result):
            if rewrite is None and not work.missing[key]:
                break
            item = screen.add(raw, cell, request.id, rewrite)
            if item is None:
                continue
            found.append(item)
            if rewrite is not None:
                del work.rewrites[rewrite.item.id]
                break
            work.missing[key] -= 1
    return found
