"""What a trajectory teaches: one training conversation, or one held-out row per answer."""

from __future__ import annotations

from typing import Any

from tracetune.records import Example, Message, Trajectory, Turn, make_example
from tracetune.telemetry.options import SessionOptions


def conversation(trajectory: Trajectory, system_prompt: str | None) -> Example:
    """The whole session as one training row; with ``assistant_only_loss`` its answers are learned.

    Args:
        trajectory: The session.
        system_prompt: The system turn; None for none.
    """
    first, *later = trajectory.turns
    completion = [_answer(first)]
    for turn in later:
        completion += [_query(turn), _answer(turn)]
    return make_example(
        prompt=[*_system(system_prompt), _query(first)],
        completion=completion,
        tags=_tags(trajectory),
        **_origin(
            trajectory,
            trajectory_id=trajectory.id,
            span_ids=" ".join(turn.span_id for turn in trajectory.turns),
        ),
    )


def held_out_turns(trajectory: Trajectory, system_prompt: str | None) -> list[Example]:
    """One row per answer of a session: the history with the reference answers, and the answer.

    The tag ``turn`` is the position of the answer in the session, from 1.
    """
    history = _system(system_prompt)
    rows = []
    for turn in trajectory.turns:
        history = [*history, _query(turn)]
        rows.append(
            make_example(
                prompt=history,
                completion=[_answer(turn)],
                tags={**_tags(trajectory), "turn": str(turn.turn_id)},
                **_origin(
                    trajectory,
                    span_id=turn.span_id,
                    trace_id=turn.metadata["trace_id"],
                    turn=str(turn.turn_id),
                ),
            )
        )
        history = [*history, _answer(turn)]
    return rows


def left_out(trajectory: Trajectory, rules: SessionOptions) -> str | None:
    """Why a trajectory gives no row: one of
    :data:`~tracetune.telemetry.session_funnel.FILTER_DROPS`, or None."""
    outcome, score = trajectory.session_outcome, trajectory.session_score
    if rules.require_evaluation and outcome is None and score is None:
        return "no_evaluation"
    if rules.outcomes is not None and outcome not in rules.outcomes:
        return "other_outcome"
    if rules.min_score is not None and (score is None or score < rules.min_score):
        return "low_score"
    return None


def _system(text: str | None) -> list[Message]:
    return [] if text is None else [Message(role="system", content=text)]


def _query(turn: Turn) -> Message:
    return Message(role="user", content=turn.query)


def _answer(turn: Turn) -> Message:
    return Message(role="assistant", content=turn.response)


def _tags(trajectory: Trajectory) -> dict[str, str]:
    return {
        "session": trajectory.session_id,
        "window": trajectory.tags["window"],
        "outcome": trajectory.session_outcome or "none",
    }


def _origin(trajectory: Trajectory, **ids: str) -> dict[str, Any]:
    """Provenance of a row. All rows of a session have its time, so that it is never divided."""
    source = trajectory.provenance
    return {
        "source": source.source,
        "tenant": source.tenant,
        "ids": {"session_id": trajectory.session_id, **ids},
        "group": source.group,
        "created_at": source.created_at,
    }
