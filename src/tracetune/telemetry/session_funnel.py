"""The funnel of sessions: where every span, turn and session went between "read" and "row"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from tracetune.errors import DataError
from tracetune.telemetry.session_tables import SESSION_DROPS, TURN_DROPS

TURN_REASONS: dict[str, str] = {
    "other_name": "the span has another name than the one configured for turns",
    "child_span": "the span has a parent",
    "no_session": "the session id is missing, blank or 'unknown'",
    "after_anchor": "the span started after the test window",
    "blank_turn": "the query or the response is no text, or blank",
    "duplicate_turn": "the same query, response and start time stand in the session already",
}
"""Why a span is no turn, in words for people."""
SESSION_REASONS: dict[str, str] = {
    "too_few_turns": "the session has fewer turns than sessions.min_turns",
    "outside_window": "the session ended before the training window",
    "private": "a turn holds secrets or personal data and privacy.policy is drop",
    "no_evaluation": "nobody evaluated the session and sessions.require_evaluation is true",
    "other_outcome": "its outcome is missing or not one of sessions.outcomes",
    "low_score": "its score is missing or below sessions.min_score",
    "duplicate": "the same conversation stands in another row",
}
"""Why a session with turns gives no row, in words for people. Up to ``private`` it is no trajectory
either."""
FILTER_DROPS = ("no_evaluation", "other_outcome", "low_score")

assert tuple(TURN_REASONS) == TURN_DROPS
assert tuple(SESSION_REASONS) == (*SESSION_DROPS, "private", *FILTER_DROPS, "duplicate")


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SpanStep(_Document):
    """One step, in spans.

    Attributes:
        reason: Name of the drop.
        meaning: The same in words.
        dropped: Spans that end here.
        remaining: Spans that go on.
    """

    reason: str
    meaning: str
    dropped: int = Field(ge=0)
    remaining: int = Field(ge=0)


class SessionStep(_Document):
    """One step, in sessions; ``turns`` are the turns of the sessions that end here."""

    reason: str
    meaning: str
    dropped: int = Field(ge=0)
    remaining: int = Field(ge=0)
    turns: int = Field(ge=0)


class Sessions(_Document):
    """Sessions with at least one turn, from "read" to "row".

    Attributes:
        read: Sessions with a turn.
        steps: Every drop in the order in which it is asked, also those that dropped nothing.
        trajectories: Sessions kept as trajectories, whatever people said of them.
        conversations: Sessions that are training conversations, one row each.
        held_out: Sessions of the test window.
    """

    read: int = Field(ge=0)
    steps: list[SessionStep]
    trajectories: int = Field(ge=0)
    conversations: int = Field(ge=0)
    held_out: int = Field(ge=0)


class HeldOutTurns(_Document):
    """Rows of the test side: ``candidates`` = ``duplicate`` + ``rows``.

    Attributes:
        candidates: Turns of the held-out sessions.
        duplicate: Turns whose history and answer stand in another row.
        rows: Test rows.
    """

    candidates: int = Field(ge=0)
    duplicate: int = Field(ge=0)
    rows: int = Field(ge=0)


class Clocks(_Document):
    """What clocks got wrong in the trajectories; such turns stay, in the order of their start.

    Attributes:
        end_before_start: Turns that ended before they started.
        overlapping: Turns that started before the turn before them had ended.
    """

    end_before_start: int = Field(ge=0)
    overlapping: int = Field(ge=0)


class SessionFunnel(_Document):
    """Counts from spans to rows: every span ends at one step or is a turn of a used session.

    Attributes:
        read: Spans in the snapshot.
        steps: Every drop in spans; a session that is left out takes its turns with it.
        turns: Turns of the sessions that give rows.
        sessions: The same in sessions, from the first that has a turn.
        examples: Rows: training conversations and held-out turns.
        held_out_turns: Test rows.
        by_window: Rows by window.
        by_outcome: Trajectories by outcome; ``none`` where nobody judged.
        clocks: What clocks got wrong.
    """

    read: int = Field(ge=0)
    steps: list[SpanStep]
    turns: int = Field(ge=0)
    sessions: Sessions
    examples: int = Field(ge=0)
    held_out_turns: HeldOutTurns
    by_window: dict[str, dict[str, int]]
    by_outcome: dict[str, int]
    clocks: Clocks

    def check(self) -> None:
        """Adds everything up.

        Raises:
            DataError: If a span, a session or a row is lost or counted twice.
        """
        sessions, rows = self.sessions, self.held_out_turns
        kept_at = [step.remaining for step in sessions.steps if step.reason == "private"]
        sums = {
            "spans": (self.read - sum(step.dropped for step in self.steps), self.turns),
            "sessions": (
                sessions.read - sum(step.dropped for step in sessions.steps),
                sessions.conversations + sessions.held_out,
            ),
            "trajectories": (kept_at[0], sessions.trajectories),
            "trajectories by outcome": (sum(self.by_outcome.values()), sessions.trajectories),
            "turns of sessions": (
                sum(step.dropped for step in self.steps if step.reason in SESSION_REASONS),
                sum(step.turns for step in sessions.steps),
            ),
            "held-out turns": (rows.candidates - rows.duplicate, rows.rows),
            "examples": (sessions.conversations + rows.rows, self.examples),
            "examples by window": (sum(self.by_window["examples"].values()), self.examples),
        }
        for name, (expected, found) in sums.items():
            if expected != found:
                raise DataError(
                    f"{found}, the counts give {expected}",
                    where=f"funnel of sessions, {name}",
                    remedy="report this: something was lost or counted twice",
                )

    def dropped(self, reason: str) -> int:
        """Spans that ended at this step."""
        return next(step.dropped for step in self.steps if step.reason == reason)


def make_session_funnel(
    *,
    spans: Mapping[str, int],
    sessions: Mapping[str, tuple[int, int]],
    conversations: int,
    held_out: int,
    held_out_turns: HeldOutTurns,
    by_outcome: Mapping[str, int],
    clocks: Clocks,
) -> SessionFunnel:
    """A checked :class:`SessionFunnel`.

    Args:
        spans: Spans by reason of :data:`TURN_REASONS`; ``""`` for turns.
        sessions: Sessions and their turns by reason of :data:`SESSION_REASONS`; ``""`` for those
            that give rows.
        conversations: Training conversations.
        held_out: Sessions of the test window that give rows.
        held_out_turns: Test rows.
        by_outcome: Trajectories by outcome.
        clocks: What clocks got wrong.
    """
    unknown = sorted((set(spans) | set(sessions)) - {"", *TURN_REASONS, *SESSION_REASONS})
    if unknown:
        raise DataError(f"unknown reasons {unknown}", where="funnel of sessions")
    read = sum(spans.values())
    steps, remaining = [], read
    ended = {**spans, **{reason: turns for reason, (_, turns) in sessions.items()}}
    for reason, meaning in {**TURN_REASONS, **SESSION_REASONS}.items():
        dropped = ended.get(reason, 0)
        remaining -= dropped
        steps.append(
            SpanStep(reason=reason, meaning=meaning, dropped=dropped, remaining=max(remaining, 0))
        )
    seen = left = sum(count for count, _ in sessions.values())
    session_steps = []
    for reason, meaning in SESSION_REASONS.items():
        count, turns = sessions.get(reason, (0, 0))
        left -= count
        session_steps.append(
            SessionStep(
                reason=reason, meaning=meaning, dropped=count, remaining=max(left, 0), turns=turns
            )
        )
    funnel = SessionFunnel(
        read=read,
        steps=steps,
        turns=sessions.get("", (0, 0))[1],
        sessions=Sessions(
            read=seen,
            steps=session_steps,
            trajectories=sum(by_outcome.values()),
            conversations=conversations,
            held_out=held_out,
        ),
        examples=conversations + held_out_turns.rows,
        held_out_turns=held_out_turns,
        by_window={
            "examples": dict(Counter({"test": held_out_turns.rows, "train": conversations}))
        },
        by_outcome=dict(sorted(by_outcome.items())),
        clocks=clocks,
    )
    funnel.check()
    return funnel
