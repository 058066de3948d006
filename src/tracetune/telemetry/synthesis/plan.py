"""What is missing and for which answers candidates are written: rare ones and hard ones first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tracetune.outputs import OutputSpec, Target, parse_json, read_target
from tracetune.records import Example, Preference, Record, ReviewItem
from tracetune.telemetry.synthesis.options import SynthesisOptions

Kind = Literal["example", "preference"]
State = Literal["enough", "not_allowed", "waiting", "write"]


class Cell(Record):
    """A part of the plan: so many candidates for one answer.

    Attributes:
        kind: Rows or pairs.
        target: What the right answer names: a name, names joined by commas, or an entity type.
        against: What the agent mistook it for; empty where nothing is known. With it the cell is
            hard: its requests come near the other answer.
        count: Candidates that are wanted.
    """

    kind: Kind
    target: str
    against: str = ""
    count: int = Field(ge=1)

    @property
    def id(self) -> str:
        """The cell in one line."""
        hard = f" against {self.against}" if self.against else ""
        return f"{self.kind}: {self.target}{hard}"


class Rewrite(Record):
    """A rejected candidate that is written anew with the reviewer's words.

    Attributes:
        item: The rejected candidate.
        words: What the reviewer said.
        attempt: Number of the new writing, from 1.
    """

    item: ReviewItem
    words: str
    attempt: int = Field(ge=1)


class SynthesisPlan(Record):
    """What is written in this run.

    Attributes:
        state: ``enough`` rows, writing ``not_allowed``, enough candidates ``waiting``, or
            ``write``.
        reason: The same in one sentence.
        missing: Training rows missing per kind (``examples``, ``pairs``).
        waiting: Candidates that already wait for people, by kind.
        cells: Candidates to write.
        rewrites: Rejected candidates to write anew.
        submitted: Candidates ever submitted; part of the ids of requests, so that a later run asks
            for something new.
    """

    state: State
    reason: str
    missing: dict[str, int]
    waiting: dict[str, int]
    cells: list[Cell] = Field(default_factory=list)
    rewrites: list[Rewrite] = Field(default_factory=list)
    submitted: int = Field(default=0, ge=0)


def make_plan(
    *,
    missing: Mapping[str, int],
    open_items: Sequence[ReviewItem],
    submitted: int,
    rewrites: Sequence[Rewrite],
    examples: Sequence[Example],
    preferences: Sequence[Preference],
    output: OutputSpec,
    options: SynthesisOptions,
) -> SynthesisPlan:
    """The plan of a run.

    A pair gives a row of SFT too, so pairs that are written count for both.

    Args:
        missing: Training rows missing per kind after what was approved; empty: there is enough.
        open_items: Candidates that wait for people.
        submitted: Candidates ever submitted.
        rewrites: Rejected candidates with attempts left.
        examples: Rows for training, approved synthetic ones too; never held-out ones.
        preferences: Pairs for training.
        output: Schema of the answers.
        options: Sizes.
    """
    waiting = Counter(item.kind for item in open_items)
    facts: dict[str, Any] = {
        "missing": {kind: missing.get(kind, 0) for kind in ("examples", "pairs")},
        "waiting": {"example": waiting["example"], "preference": waiting["preference"]},
        "submitted": submitted,
    }
    if not missing:
        return SynthesisPlan(state="enough", reason="there are enough rows", **facts)
    if not options.allowed:
        return SynthesisPlan(state="not_allowed", reason="synthesis.allowed is false", **facts)
    if output.compare == "text":
        reason = "candidates are written for agents that answer in JSON only"
        return SynthesisPlan(state="not_allowed", reason=reason, **facts)
    room = max(0, options.most - len(open_items))
    again = list(rewrites)[:room]
    room -= len(again)
    coming = Counter(rewrite.item.kind for rewrite in again) + waiting
    pairs = _wanted(missing.get("pairs", 0), options) if options.pairs else 0
    new_pairs = min(room, max(0, pairs - coming["preference"]))
    rows = _wanted(missing.get("examples", 0), options)
    new_rows = min(room - new_pairs, max(0, rows - new_pairs - coming.total()))
    cells = [
        *_cells("preference", new_pairs, examples, preferences, open_items, output),
        *_cells("example", new_rows, examples, preferences, open_items, output),
    ]
    if not cells and not again:
        count = len(open_items)
        return SynthesisPlan(state="waiting", reason=f"{count} candidates wait for people", **facts)
    number = sum(cell.count for cell in cells)
    reason = f"{number} new candidates and {len(again)} written anew"
    return SynthesisPlan(state="write", reason=reason, cells=cells, rewrites=again, **facts)


def _wanted(missing: int, options: SynthesisOptions) -> int:
    return math.ceil(missing * (1 + options.surplus))


def target_of(answer: str, output: OutputSpec) -> Target | None:
    """What an answer names; None if it is no valid output."""
    try:
        value = parse_json(answer)
    except ValueError:
        return None
    return read_target(value, output) if isinstance(value, dict) else None


def cell_names(target: Target, output: OutputSpec) -> list[str]:
    """The cells that an answer belongs to: its types for entities, its label for the others."""
    return target.slices(output) if output.compare == "entities" else [target.label]


def known_targets(examples: Sequence[Example], output: OutputSpec) -> Counter[str]:
    """How often each cell stands in the rows, with those that exist and never do."""
    counts: Counter[str] = Counter(dict.fromkeys(output.known, 0))
    for row in examples:
        target = target_of(row.completion[0].content, output)
        if target is not None:
            counts.update(name for name in cell_names(target, output) if name != "none")
    return counts


def confusions(preferences: Sequence[Preference], output: OutputSpec) -> Counter[tuple[str, str]]:
    """(right, wrong) answers of agents that people corrected, with their number."""
    found: Counter[tuple[str, str]] = Counter()
    for row in preferences:
        right = target_of(row.chosen[0].content, output)
        wrong = target_of(row.rejected[0].content, output)
        if right is None or wrong is None or output.compare == "entities":
            continue
        if right.label != wrong.label and wrong.is_known(output):
            found[right.label, wrong.label] += 1
    return found


def _cells(
    kind: Kind,
    count: int,
    examples: Sequence[Example],
    preferences: Sequence[Preference],
    open_items: Sequence[ReviewItem],
    output: OutputSpec,
) -> list[Cell]:
    """``count`` candidates over the answers: always the next one for the rarest.

    Within an answer every second candidate is a hard one where people corrected a mistake about
    it, the most frequent mistakes first.
    """
    counts = known_targets(examples, output)
    for item in open_items:
        target = target_of(item.answer[0].content, output)
        counts.update(cell_names(target, output) if target is not None else [])
    if not counts:
        counts["answer"] = 0
    mistakes = confusions(preferences, output)
    order = {name: place for place, name in enumerate(counts)}
    given: Counter[tuple[str, str]] = Counter()
    for _ in range(count):
        name = min(counts, key=lambda cell: (counts[cell], order[cell]))
        counts[name] += 1
        given[name, _mistaken_for(name, given, mistakes)] += 1
    return [
        Cell(kind=kind, target=name, against=against, count=number)
        for (name, against), number in sorted(given.items())
    ]


def _mistaken_for(
    name: str, given: Counter[tuple[str, str]], mistakes: Counter[tuple[str, str]]
) -> str:
    """The mistake of the next candidate for an answer; empty for a plain one."""
    wrong = [
        pair[1]
        for pair, _ in sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))
        if pair[0] == name
    ]
    before = sum(number for (cell, _), number in given.items() if cell == name)
    return wrong[before // 2 % len(wrong)] if wrong and before % 2 == 0 else ""
