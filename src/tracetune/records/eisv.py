"""EISV trajectories: windows of states with their shape and what was expressed in them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tracetune.records.base import Record, Row, Text, make_origin

EisvShape = Literal[
    "basin_transition_down",
    "basin_transition_up",
    "entropy_spike_recovery",
    "drift_dissonance",
    "void_rising",
    "rising_entropy",
    "falling_energy",
    "convergence",
    "settled_presence",
]
"""The nine shapes, in the order in which their rules are tried."""

EisvPattern = Literal["SINGLE", "PAIR", "TRIPLE", "REPETITION", "QUESTION"]
"""How the tokens of an expression are put together."""

EisvOrigin = Literal["lumen_real", "synthetic"]
"""Whether states were measured or generated."""

PatternSource = Literal["drawn", "inferred"]
"""Whether a generator drew the pattern, or it was read off the tokens."""


class EisvState(Record):
    """One state of the four dimensions.

    Attributes:
        t: Time in seconds; of measured states, since 1970 UTC.
        E: Energy.
        I: Information integrity.
        S: Entropy.
        V: Void.
        ethical_drift: None where it was not recorded, which counts as 0.
    """

    t: float = Field(allow_inf_nan=False)
    E: float = Field(ge=0, le=1, allow_inf_nan=False)
    I: float = Field(ge=0, le=1, allow_inf_nan=False)  # noqa: E741 (the name of the dimension)
    S: float = Field(ge=0, le=1, allow_inf_nan=False)
    V: float = Field(ge=0, le=1, allow_inf_nan=False)
    ethical_drift: float | None = Field(default=None, allow_inf_nan=False)

    def plain(self) -> list[float | None]:
        """The numbers in the order t, E, I, S, V, drift."""
        return [self.t, self.E, self.I, self.S, self.V, self.ethical_drift]


class EisvExpression(Record):
    """What was expressed in a window.

    Attributes:
        tokens: EISV tokens. Empty where only Lumen primitives were recorded: which tokens they were
            translated from cannot be told, because the bridge is not one to one.
        pattern: How it is put together.
        pattern_source: ``drawn`` by a generator, or ``inferred`` from the tokens.
        lumen: Lumen primitives.
        time: When it was expressed, in the time of the states; None where it was not recorded.
    """

    tokens: list[Text]
    pattern: EisvPattern
    pattern_source: PatternSource
    lumen: list[Text]
    time: float | None = Field(default=None, allow_inf_nan=False)

    def plain(self) -> list[Any]:
        """The values in the order of the fields."""
        return [self.tokens, self.pattern, self.pattern_source, self.lumen, self.time]

    @model_validator(mode="after")
    def _check(self) -> EisvExpression:
        if not self.tokens and not self.lumen:
            raise ValueError("an expression has EISV tokens or Lumen primitives")
        return self


class EisvTrajectory(Row):
    """A window of states, its shape, and what was expressed in it.

    ``tags`` hold ``shape`` and ``origin``. ``provenance.ids`` of a measured window hold ``series``
    (whose states they are), ``t_start`` and ``t_end``; a row made from a window keeps these ids,
    tags and the group, because the split goes by them.

    Attributes:
        states: In the order of their times, at least two.
        shape: One of the nine.
        t_start: Time of the first state.
        t_end: Time of the last state.
        origin: Measured or generated.
        expressions: In the order of their times.
    """

    states: list[EisvState] = Field(min_length=2)
    shape: EisvShape
    t_start: float
    t_end: float
    origin: EisvOrigin
    expressions: list[EisvExpression] = Field(default_factory=list)

    def content(self) -> Any:
        """States, shape and expressions."""
        return _content(self.states, self.shape, self.expressions)

    @model_validator(mode="after")
    def _check(self) -> EisvTrajectory:
        times = [state.t for state in self.states]
        for number in range(1, len(times)):
            if times[number] < times[number - 1]:
                raise ValueError(f"state {number} is earlier than the state before it")
        if (self.t_start, self.t_end) != (times[0], times[-1]):
            raise ValueError("t_start and t_end are the times of the first and the last state")
        if (self.tags.get("shape"), self.tags.get("origin")) != (self.shape, self.origin):
            raise ValueError("the tags shape and origin repeat the fields")
        for expression in self.expressions:
            if expression.time is not None and not self.t_start <= expression.time <= self.t_end:
                raise ValueError(f"the expression at {expression.time} lies outside the window")
        return self


def make_eisv_trajectory(
    *,
    states: list[EisvState],
    shape: EisvShape,
    origin: EisvOrigin,
    expressions: list[EisvExpression] | None = None,
    tags: dict[str, str] | None = None,
    **provenance: Any,
) -> EisvTrajectory:
    """An :class:`EisvTrajectory` with its id, times, content hash and tags filled in.

    Args:
        states: In the order of their times.
        shape: One of the nine.
        origin: Measured or generated.
        expressions: What was expressed in it.
        tags: Further small facts for reports.
        **provenance: Fields of :class:`Provenance` without ``content_hash``.
    """
    said = expressions or []
    found, row_id = make_origin("eisv", _content(states, shape, said), provenance)
    return EisvTrajectory(
        id=row_id,
        provenance=found,
        states=states,
        shape=shape,
        t_start=states[0].t,
        t_end=states[-1].t,
        origin=origin,
        expressions=said,
        tags={**(tags or {}), "shape": shape, "origin": origin},
    )


def window_ids(series: str, t_start: float, t_end: float) -> dict[str, str]:
    """``provenance.ids`` of a measured window: whose states they are, from when to when."""
    return {"series": series, "t_start": repr(t_start), "t_end": repr(t_end)}


def _content(
    states: list[EisvState], shape: EisvShape, expressions: list[EisvExpression]
) -> list[Any]:
    return [[state.plain() for state in states], shape, [said.plain() for said in expressions]]
