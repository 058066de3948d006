"""Parameters of conversations: what counts as stalling, what is rewritten, which pairs are made."""

from __future__ import annotations

from pydantic import Field, model_validator

from tracetune.options import Options


class ClassifierOptions(Options):
    """Thresholds of the classifier (domain reference, E3)."""

    stall_threshold: int = Field(
        1, ge=1, description="Stall score from which an answer without any work is unjustified."
    )
    strict_threshold: int = Field(
        3, ge=1, description="A second threshold, whose count stands beside it in the report."
    )
    blocked_at_most: int = Field(
        1, ge=0, description="A request more blocked than this may be asked back about."
    )
    justified_from: int = Field(
        3,
        ge=1,
        description="Blocked score from which a question is justified, and a request is "
        "of the class blocked.",
    )
    complete_from: float = Field(
        0.7, ge=0, le=1, description="Completeness from which no question is allowed."
    )
    unclear_below: float = Field(
        0.4, ge=0, le=1, description="Completeness below which a question is allowed if required."
    )
    directive_from: float = Field(
        0.6, ge=0, le=1, description="Completeness from which a request is a directive."
    )
    quote_chars: int = Field(
        50, ge=1, description="Quoted stretches of this length are nobody's own words."
    )

    @model_validator(mode="after")
    def _ordered(self) -> ClassifierOptions:
        if not self.unclear_below <= self.directive_from <= self.complete_from:
            raise ValueError("unclear_below <= directive_from <= complete_from does not hold")
        return self


class RewriteOptions(Options):
    """Which answers are rewritten, and what is accepted."""

    completeness_from: float = Field(
        0.5, ge=0, le=1, description="Requests less complete than this are not rewritten."
    )
    fewest_chars: int = Field(
        100, ge=0, description="An answer without code or diff has more characters than this."
    )
    later_from: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Intensity of friction from which the answer after it counts as what was "
        "wanted, unless code or another form was asked for, which shows it.",
    )
    context_chars: int = Field(
        6_000, ge=500, description="Most characters of the conversation that the writer sees."
    )
    max_tokens: int = Field(2_000, ge=100, description="Longest answer of the writer.")


class PairOptions(Options):
    """How worse answers are made."""

    reflex_from: float = Field(
        0.5, ge=0, le=1, description="Completeness from which asking for permission is worse."
    )
    options_from: float = Field(
        0.7, ge=0, le=1, description="Completeness from which a list of options is worse."
    )
    kept_lines: int = Field(3, ge=1, description="An omission keeps at least this many lines.")
    kept_share: float = Field(0.2, gt=0, lt=1, description="And at least this share of the lines.")
    friction_weight: float = Field(
        1.2, gt=0, description="Weight of a pair whose worse answer made the user angry."
    )


class SurgeryOptions(Options):
    """From conversations to clean records."""

    classifier: ClassifierOptions = ClassifierOptions()
    rewrite: RewriteOptions = RewriteOptions()
    pairs: PairOptions = PairOptions()
    history_chars: int = Field(
        12_000,
        ge=0,
        description="Most characters of the conversation before a request that a record keeps; "
        "whole turns, the latest ones. The system turn always stays.",
    )
    examples_shown: int = Field(3, ge=0, description="Examples of each rule that the report shows.")
