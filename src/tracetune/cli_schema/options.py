"""Parameters of generated examples and of pairs made from them."""

from __future__ import annotations

from pydantic import Field, model_validator

from tracetune.options import Options


class Shares(Options):
    """How the examples divide by kind; together 1."""

    with_context: float = Field(0.6, ge=0, le=1, description="A command, with a context.")
    without_context: float = Field(0.2, ge=0, le=1, description="A command, without one.")
    clarification: float = Field(0.2, ge=0, le=1, description="A request that needs asking back.")

    @model_validator(mode="after")
    def _whole(self) -> Shares:
        total = self.with_context + self.without_context + self.clarification
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares add up to {total:g}, not to 1")
        return self


class CliGenerationOptions(Options):
    """How many examples are written, and how different they have to be."""

    num_examples: int = Field(
        1500, ge=1, description="Examples wanted. 10,000 is the size of source document 002."
    )
    shares: Shares = Field(Shares(), description="Kinds of examples.")
    per_request: int = Field(25, ge=1, le=50, description="Examples per request to the writer.")
    rounds: int = Field(6, ge=1, le=20, description="Rounds of writing until every cell is full.")
    near_duplicate: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Jaccard similarity of word 3-shingles from which two requests with the same "
        "answer are the same.",
    )
    same_request: int = Field(
        3, ge=1, description="Most examples whose requests differ only in numbers."
    )
    min_distinct: float = Field(
        0.6, ge=0, le=1, description="Smallest share of requests that differ beyond their numbers."
    )
    max_cell_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Largest share of the command examples on one subcommand. Not less than 1.5 "
        "times an equal share, so that small programs can pass.",
    )
    min_coverage: float = Field(
        1.0, ge=0, le=1, description="Smallest share of subcommands with an example."
    )


class CliPairOptions(Options):
    """How preference pairs are made."""

    num_pairs: int = Field(1000, ge=1, description="Most pairs.")
    corruption_share: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Largest share of pairs whose worse answer is a near miss made from the right "
        "one, for requests that the model answers rightly.",
    )
