"""Five coordinates and a phase for every turn of a conversation (document 001; reference D3, D5).

``full`` measures a turn against the whole conversation, as document 001 does; that is only known
once the conversation has ended. ``causal`` measures it against what is usual in the training
conversations, so that it never depends on a later turn and inference knows it.
"""

from __future__ import annotations

import re
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from tracetune.conversations.exchanges import inlined
from tracetune.files import sha256_json
from tracetune.records import ChatTurn, Conversation
from tracetune.records.heads import (
    HeadRole,
    HeadVariant,
    SiblingOrder,
    TrajectoryPoint,
    TrajectoryReference,
)

ROLE_CODES: dict[HeadRole, float] = {"system": 0.0, "user": 0.33, "assistant": 0.67}
"""The second coordinate, exactly as document 001 writes it; these are not thirds."""
PHASE_STARTS = (0.10, 0.25, 0.50, 0.75, 0.90)
"""Depths at which the phases 1 to 5 begin; a phase holds its start and not its end."""
MOST_WORDS, MOST_LINES = 400, 60
"""Words and lines from which a turn counts as fully complex in this respect."""
_WORD = re.compile(r"\w+")
_FENCE = re.compile(r"^[^\S\n]*(```|~~~)", re.MULTILINE)
_OWNER = "owner"


@dataclass(frozen=True)
class SpokenTurn:
    """One turn that has coordinates.

    Attributes:
        role: Who said it.
        content: What was said, with attachments.
        created_at: When, where the export says so.
        author: Who wrote it: a person, or the assistant of a provider.
        place: Position among the answers to the same turn, from 0.
        places: How many answers to it there are.
    """

    role: HeadRole
    content: str
    created_at: datetime | None
    author: str
    place: int = 0
    places: int = 1


def spoken(conversation: Conversation) -> list[SpokenTurn]:
    """The turns of the main path, without calls of tools and their results.

    Document 001 has no role code for tools. Turns of one side in a row stay apart.
    """
    children = conversation.alternatives()
    found = []
    for turn in conversation.path():
        role = _role(turn)
        if role is None:
            continue
        siblings = [other.id for other in children[turn.parent] if _role(other) == role]
        author = f"assistant of {conversation.provider}" if role == "assistant" else _person(turn)
        found.append(
            SpokenTurn(
                role,
                inlined(turn),
                turn.created_at,
                author,
                siblings.index(turn.id),
                len(siblings),
            )
        )
    return found


def measure(
    conversations: Sequence[Sequence[SpokenTurn]],
    *,
    variant: HeadVariant,
    sibling_order: SiblingOrder,
    pattern_rules: str,
) -> TrajectoryReference:
    """What causal coordinates are measured against: medians of the training conversations.

    Args:
        conversations: Turns of the training conversations, and of no others.
        variant: Of the coordinates that are trained on.
        sibling_order: What the second coordinate is.
        pattern_rules: Version of the rules of the pattern labels, to be stored beside.
    """
    lengths = [len(turns) for turns in conversations if turns]
    times = [_elapsed(turns) for turns in conversations]
    durations = [known[-1] for given in times if len(known := _known(given)) > 1]
    return TrajectoryReference(
        variant=variant,
        sibling_order=sibling_order,
        turns=float(statistics.median(lengths)) if lengths else 0.0,
        seconds=float(statistics.median(durations)) if durations else 0.0,
        conversations=len(lengths),
        pattern_rules=pattern_rules,
    )


def coordinates(
    turns: Sequence[SpokenTurn], reference: TrajectoryReference
) -> list[TrajectoryPoint]:
    """Coordinates and phase of every turn.

    Args:
        turns: All turns of one conversation, in order. In the variant ``causal`` those after a turn
            change nothing about it.
        reference: Variant, second coordinate, and what causal positions are measured against.

    Returns:
        One point per turn: depth, sibling order, homogeneity, temporal, complexity, each 0 to 1.
    """
    causal = reference.variant == "causal"
    elapsed = _elapsed(turns)
    longest = max(_known(elapsed), default=0.0)
    found = []
    for index, turn in enumerate(turns):
        last = max(index, reference.turns - 1) if causal else len(turns) - 1
        depth = _share(index, last)
        seconds = elapsed[index]
        if seconds is None:
            temporal = depth
        else:
            temporal = _share(seconds, max(seconds, reference.seconds) if causal else longest)
        before = turns[index - 1].content if index else None
        homogeneity = 1.0 if before is None else similarity(before, turn.content)
        second = (
            ROLE_CODES[turn.role]
            if reference.sibling_order == "role"
            else _regeneration(turn, causal=causal)
        )
        found.append(
            TrajectoryPoint(
                coordinates=[depth, second, homogeneity, temporal, complexity(turn.content)],
                phase_id=phase_of(depth),
                homogeneity=homogeneity,
                turn_index=index,
            )
        )
    return found


def phase_of(depth: float) -> int:
    """The phase of a depth: [0, .10) [.10, .25) [.25, .50) [.50, .75) [.75, .90) [.90, 1]."""
    return bisect_right(PHASE_STARTS, depth)


def similarity(one: str, other: str) -> float:
    """Jaccard index of the sets of words, 0 to 1; two texts without a word are the same."""
    a, b = (set(_WORD.findall(text.lower())) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0


def complexity(text: str) -> float:
    """How complex a turn is, 0 to 1: .5 by its words, .3 for code, .2 by its lines."""
    words = min(len(text.split()) / MOST_WORDS, 1.0)
    lines = min(len(text.splitlines()) / MOST_LINES, 1.0)
    return min(1.0, 0.5 * words + 0.3 * bool(_FENCE.search(text)) + 0.2 * lines)


def _role(turn: ChatTurn) -> HeadRole | None:
    """The role of a turn that has coordinates; an assistant's turn with a name calls a tool."""
    if turn.role == "tool" or (turn.role == "assistant" and turn.name is not None):
        return None
    return turn.role


def _person(turn: ChatTurn) -> str:
    """Who said it: an export is of one person; names of plain JSONL are nobody's business."""
    return _OWNER if turn.name is None else f"person {sha256_json(turn.name)[:8]}"


def _regeneration(turn: SpokenTurn, *, causal: bool) -> float:
    """Place among the regenerated answers; causal: whether an earlier one had been there."""
    if causal:
        return float(turn.place > 0)
    return _share(turn.place, turn.places - 1)


def _elapsed(turns: Sequence[SpokenTurn]) -> list[float | None]:
    """Seconds since the first turn, never falling; None where a time is missing."""
    if not turns or turns[0].created_at is None:
        return [None] * len(turns)
    start = turns[0].created_at
    known = [
        0.0 if turn.created_at is None else (turn.created_at - start).total_seconds()
        for turn in turns
    ]
    rising = accumulate(known, max, initial=0.0)
    next(rising)
    return [
        None if turn.created_at is None else seconds
        for turn, seconds in zip(turns, rising, strict=True)
    ]


def _known(times: Sequence[float | None]) -> list[float]:
    return [seconds for seconds in times if seconds is not None]


def _share(part: float, whole: float) -> float:
    """``part / whole``, and 0 where both are 0."""
    return part / whole if whole > 0 else 0.0
