"""What trained heads say of conversations: for ``kedro twin style`` and from Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.conversations.coordinates import spoken
from tracetune.conversations.read import read_file, redacted
from tracetune.conversations.trajectory_rows import read_rows, trajectory_rows
from tracetune.errors import ConfigurationError, DataError
from tracetune.files import read_json
from tracetune.privacy import PrivacyOptions, Redactor
from tracetune.records.heads import (
    PATTERNS,
    PHASES,
    HeadVariant,
    TrajectoryReference,
    TrajectoryRow,
)

if TYPE_CHECKING:
    from tracetune.training.heads.api import Encoded


@dataclass(frozen=True)
class TurnStyle:
    """What the heads say of one turn.

    Attributes:
        row_id: Conversation and position.
        role: Who said it.
        phase_id: 0 opening to 5 closing.
        coordinates: depth, sibling order, homogeneity, temporal, complexity.
        patterns: Probability of each pattern.
        style_signature: Unit vector; a cosine tells how alike two are.
        gate: Mean gate of the adapter; near 0 the trajectory changes nothing.
        ends_within: Probability that the conversation has ended before each of the next turns.
    """

    row_id: str
    role: str
    phase_id: int
    coordinates: list[float]
    patterns: dict[str, float]
    style_signature: list[float]
    gate: float
    ends_within: list[float]


def turns_in(
    file: Path,
    reference: TrajectoryReference,
    privacy: PrivacyOptions,
    *,
    variant: HeadVariant | None = None,
) -> list[TrajectoryRow]:
    """The turns of a file, with coordinates as the heads were trained on.

    Args:
        file: An export of ChatGPT or Claude, plain JSONL, or document 001's JSONL, whose
            coordinates are taken as they stand.
        reference: How coordinates are made; of the trained heads.
        privacy: How texts are redacted, as before training.
        variant: What the coordinates of document 001's JSONL may know; None: ``reference.json``
            beside the file says it, as beside the rows that the pipeline writes.

    Raises:
        DataError: The file cannot be read, nothing is said in it, or nothing says the variant.
        ConfigurationError: Its coordinates are made in another way than those of the training.
    """
    if not file.is_file():
        raise DataError("there is no such file", where=str(file), remedy="check the path")
    if _holds_rows(file):
        _check_made_alike(file, reference, variant)
        rows = read_rows(file)
    else:
        if variant not in (None, reference.variant):
            raise ConfigurationError(
                f"coordinates of conversations are made as the heads need them: "
                f"{reference.variant!r}, not {variant!r}",
                where=str(file),
                remedy="leave --variant out; it is for document 001's JSONL",
            )
        redactor = Redactor(privacy)
        kept = [redacted(conversation, redactor) for conversation in read_file(file)]
        rows = [
            row
            for conversation in kept
            if conversation is not None
            for row in trajectory_rows(conversation.group, spoken(conversation), reference)
        ]
    if not rows:
        raise DataError(
            "there is no turn to look at",
            where=str(file),
            remedy="give conversations in which a user or an assistant says something",
        )
    return rows


def styles(heads: Path, rows: Sequence[TrajectoryRow], *, variant: HeadVariant) -> list[TurnStyle]:
    """What trained heads say of turns.

    Args:
        heads: Folder that the pipeline ``heads`` released.
        rows: Turns with their coordinates.
        variant: What these coordinates may know.

    Raises:
        ConfigurationError: The heads were trained on another variant.
    """
    from tracetune.training.heads.api import load_twin

    twin = load_twin(heads)
    said: Encoded = twin.encode(rows, variant=variant)
    return [
        TurnStyle(
            row_id=row.row_id,
            role=row.messages[-1].role,
            phase_id=row.trajectory.phase_id,
            coordinates=row.trajectory.coordinates,
            patterns={
                name: float(chance)
                for name, chance in zip(PATTERNS, said.pattern_probabilities[place], strict=True)
            },
            style_signature=[float(number) for number in said.style[place]],
            gate=float(said.gate_mean[place]),
            ends_within=[float(chance) for chance in said.stop[place]],
        )
        for place, row in enumerate(rows)
    ]


UNCHOSEN_THRESHOLD = 0.5
"""Probability from which a pattern is named if the run held nothing out to choose one with."""


def threshold_of(heads: Path) -> float:
    """The probability from which a pattern is named: as the judgement chose it, else one half.

    Args:
        heads: Folder that the pipeline ``heads`` released.
    """
    chosen = read_json(heads / "serving.json")["pattern_threshold"]
    return UNCHOSEN_THRESHOLD if chosen is None else float(chosen)


def lines_of(found: Sequence[TurnStyle], threshold: float) -> list[str]:
    """One line per turn for people, then how alike the conversations are.

    Args:
        found: Turns.
        threshold: Probability from which a pattern is named.
    """
    width = max(len(turn.row_id) for turn in found)
    lines = []
    for turn in found:
        named = [
            f"{name.replace('_', ' ')} {chance:.2f}"
            for name, chance in sorted(turn.patterns.items(), key=lambda item: -item[1])
            if chance >= threshold
        ]
        lines.append(
            f"{turn.row_id:{width}}  {turn.role:9}  {PHASES[turn.phase_id]:11}  "
            f"{', '.join(named) or 'no pattern'}"
        )
    return lines + _alike(found)


def json_lines(found: Sequence[TurnStyle]) -> list[str]:
    """One JSON object per turn, with the whole signature."""
    return [json.dumps(vars(turn)) for turn in found]


def _alike(found: Sequence[TurnStyle]) -> list[str]:
    """The conversation whose mean signature is nearest to each one's."""
    import numpy as np

    of: dict[str, list[list[float]]] = {}
    for turn in found:
        of.setdefault(turn.row_id.rpartition("#")[0], []).append(turn.style_signature)
    names = list(of)
    if len(names) == 1:
        return []
    means = np.array([np.mean(signatures, axis=0) for signatures in of.values()])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    cosines = means @ means.T
    np.fill_diagonal(cosines, -2)
    nearest: Any = cosines.argmax(axis=1)
    return [
        "",
        *(
            f"{name} is nearest to {names[other]} (cosine {cosines[place, other]:.2f})"
            for place, (name, other) in enumerate(zip(names, nearest, strict=True))
        ),
    ]


def _check_made_alike(
    file: Path, reference: TrajectoryReference, variant: HeadVariant | None
) -> None:
    """Refuses rows whose coordinates are not made as those that the heads were trained on."""
    beside = file.with_name("reference.json")
    if beside.is_file():
        made = _reference_in(beside)
    elif variant is not None:
        made = reference.model_copy(update={"variant": variant})
    else:
        raise DataError(
            "nothing says whether these coordinates know the whole conversation or only the past",
            where=str(file),
            remedy="give --variant full for document 001's own rows or --variant causal (from "
            "Python: variant=...), or put the reference.json of the rows beside them",
        )
    if variant not in (None, made.variant):
        raise ConfigurationError(
            f"the coordinates are said to be {variant!r} and {beside.name} beside them says "
            f"{made.variant!r}",
            where=str(file),
            remedy="leave --variant out",
        )
    for name in ("variant", "sibling_order"):
        if getattr(made, name) != getattr(reference, name):
            raise ConfigurationError(
                f"{name} of the coordinates is {getattr(made, name)!r}, the heads were trained on "
                f"{getattr(reference, name)!r}",
                where=str(file),
                remedy="give the conversations themselves, whose coordinates are then made as the "
                "heads need them, or use heads trained on such coordinates",
            )


def _reference_in(file: Path) -> TrajectoryReference:
    """How the coordinates of rows were made."""
    try:
        return TrajectoryReference.model_validate(read_json(file))
    except ValueError as error:
        raise DataError(
            f"it does not say how coordinates are made: {error}",
            where=str(file),
            remedy="restore it, or move the rows to a folder of their own and give --variant",
        ) from None


def _holds_rows(file: Path) -> bool:
    """Whether the first line is a record of document 001."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        value = json.loads(first)
    except ValueError:
        return False
    return isinstance(value, dict) and "trajectory" in value
