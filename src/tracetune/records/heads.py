"""Rows of the heads on a frozen base: turns with their place in the conversation (document 001)."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from tracetune.records.base import Record, Text, UtcTime

HeadRole = Literal["system", "user", "assistant"]
"""Roles with a role code; calls of tools and their results have none and are no turns here."""

HeadVariant = Literal["causal", "full"]
"""What a coordinate may know: only the past, or the whole conversation (as document 001 has it)."""

SiblingOrder = Literal["role", "regeneration"]
"""What the second coordinate is: the code of the role, or the place among regenerated answers."""

Pattern = Literal[
    "directive",
    "clarifying_question",
    "step_by_step",
    "code_production",
    "debugging",
    "comparison",
    "refinement",
    "summarising",
    "planning",
    "explanation_with_example",
    "delegation",
    "reflection",
]
"""The twelve patterns of a turn, in the order of the outputs of the pattern head."""

PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
COORDINATES = ("depth", "sibling_order", "homogeneity", "temporal", "complexity")
"""Names of the five coordinates, in their order."""
PHASES = ("opening", "context", "exploration", "solution", "refinement", "closing")
"""Names of the phases 0 to 5."""
NEXT_TURNS = 8
"""How many next turns a plan is about."""

Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A number from 0 to 1."""


class HeadMessage(Record):
    """One message of a row."""

    role: HeadRole
    content: Text

    @model_validator(mode="after")
    def _says_something(self) -> HeadMessage:
        if not self.content.strip():
            raise ValueError("content is blank")
        return self


class TrajectoryPoint(Record):
    """Where a turn stands in its conversation.

    Attributes:
        coordinates: depth, sibling order, homogeneity, temporal, complexity; each 0 to 1.
        phase_id: 0 opening to 5 closing.
        homogeneity: The third coordinate once more, as document 001 writes it.
        turn_index: Position among the turns of the conversation, from 0.
    """

    coordinates: list[Unit] = Field(min_length=5, max_length=5)
    phase_id: int = Field(ge=0, le=5)
    homogeneity: Unit
    turn_index: int = Field(ge=0)

    @model_validator(mode="after")
    def _agrees(self) -> TrajectoryPoint:
        if self.homogeneity != self.coordinates[2]:
            raise ValueError(
                f"homogeneity is {self.homogeneity}, coordinates[2] is {self.coordinates[2]}; "
                "both are the same number"
            )
        return self


class TrajectoryRow(Record):
    """One turn with what was said up to it: the record of document 001, nothing more.

    Attributes:
        messages: The conversation up to and including the turn, which is the last message.
        trajectory: Where the turn stands.
        conversation_id: Whose turn it is.
    """

    messages: list[HeadMessage] = Field(min_length=1)
    trajectory: TrajectoryPoint
    conversation_id: Text = Field(min_length=1)

    @property
    def row_id(self) -> str:
        """What tells it from all others: conversation and position."""
        return head_row_id(self.conversation_id, self.trajectory.turn_index)


def head_row_id(conversation_id: str, turn_index: int) -> str:
    """Id of the row of a turn, by which :class:`HeadExtra` refers to it."""
    return f"{conversation_id}#{turn_index}"


class HeadExtra(Record):
    """What is known of a row beyond document 001's record; one of each row, keyed by its id.

    Attributes:
        row_id: Of the row.
        conversation_id: Whose turn it is.
        author: Who wrote the turn: a person, or the assistant of a provider.
        style_group: Rows with the same one are positives of the style head.
        role: Role of the turn.
        source: Whose export it is from.
        created_at: When the turn was said, where the export says so.
        turn_index: Position in the conversation, from 0.
        variant: Of the coordinates of the row.
        patterns: Whether each of :data:`PATTERNS` is there.
        next_rows: Ids of the next turns of the conversation, nearest first, fewer at its end.
    """

    row_id: Text
    conversation_id: Text = Field(min_length=1)
    author: Text = Field(min_length=1)
    style_group: Text = Field(min_length=1)
    role: HeadRole
    source: Text
    created_at: UtcTime | None = None
    turn_index: int = Field(ge=0)
    variant: HeadVariant
    patterns: list[bool] = Field(min_length=len(PATTERNS), max_length=len(PATTERNS))
    next_rows: list[Text] = Field(max_length=NEXT_TURNS)

    @model_validator(mode="after")
    def _check(self) -> HeadExtra:
        if self.row_id != head_row_id(self.conversation_id, self.turn_index):
            raise ValueError("row_id is conversation_id#turn_index")
        expected = [
            head_row_id(self.conversation_id, self.turn_index + step)
            for step in range(1, len(self.next_rows) + 1)
        ]
        if self.next_rows != expected:
            raise ValueError("next_rows are the turns that follow, in order, of one conversation")
        return self


class TrajectoryReference(Record):
    """What coordinates are measured against, and how they were made; stored with the heads.

    Attributes:
        variant: ``causal`` or ``full``.
        sibling_order: What the second coordinate is.
        homogeneity: What compares a turn with the one before it.
        turns: N_ref, the median number of turns of the training conversations.
        seconds: T_ref, the median duration of those with two different times or more; 0 if none.
        conversations: How many conversations both are from.
        pattern_rules: Version of the rules of the pattern labels.
    """

    variant: HeadVariant
    sibling_order: SiblingOrder
    homogeneity: Literal["jaccard"] = "jaccard"
    turns: float = Field(ge=0, allow_inf_nan=False)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    conversations: int = Field(ge=0)
    pattern_rules: str = Field(min_length=1)
