"""Parameters of the pipeline ``eisv``, as they stand under ``eisv`` in the configuration."""

from __future__ import annotations

from pydantic import Field, field_validator

from tracetune.eisv.options import EisvDataOptions
from tracetune.eisv.prompt import VARIANTS, Variant
from tracetune.eisv.student import StudentOptions
from tracetune.options import Options

RELEASED: Variant = "full"
"""The variant whose teacher is released and teaches the students."""


class AnswerOptions(Options):
    """How many answers are drawn to a window; of one answer at temperature 1 most is luck."""

    at_1: int = Field(4, ge=1, description="Answers of a teacher to a held-out window at 1.0.")
    at_03: int = Field(2, ge=1, description="The same at 0.3; the greedy answer is one.")
    base: int = Field(1, ge=1, description="Answers of the base model at 1.0 and at 0.3.")
    lessons: int = Field(
        1, ge=1, description="Answers of the teacher to a training window, for the students."
    )
    max_new_tokens: int = Field(96, ge=8, description="Longest answer in tokens.")
    batch_size: int = Field(64, ge=1, description="Answers made at once.")
    seed: int = Field(17, ge=0, description="Seed of sampling and of the intervals.")


class EisvOptions(Options):
    """From a source to teachers, students and their judgement."""

    data: EisvDataOptions = EisvDataOptions()
    variants: tuple[Variant, ...] = Field(
        VARIANTS, description="One teacher is trained for each: what its prompts show."
    )
    measured_expressions: bool = Field(
        False,
        description="Teach what was expressed in measured windows where its EISV tokens are known, "
        "instead of what the rules draw.",
    )
    answers: AnswerOptions = AnswerOptions()
    student: StudentOptions = StudentOptions()

    @field_validator("variants")
    @classmethod
    def _holds_the_released_one(cls, found: tuple[Variant, ...]) -> tuple[Variant, ...]:
        if len(set(found)) != len(found):
            raise ValueError("a variant stands there twice")
        if RELEASED not in found:
            raise ValueError(f"{RELEASED!r} must be among them: it is released and teaches")
        return found
