"""Parameters of the pipeline ``cli``: what is written, told, paired and held out."""

from __future__ import annotations

from pydantic import Field

from tracetune.cli_schema.options import CliGenerationOptions, CliPairOptions
from tracetune.cli_schema.prompt import PromptOptions
from tracetune.options import Options


class GenerationOptions(CliGenerationOptions):
    """How many examples are written, how different they have to be, and whether anew."""

    force: bool = Field(
        False,
        description="Ask for everything anew, although replies are kept. A generation that was "
        "interrupted is finished first. The replies of earlier generations stay in the ledger.",
    )


class CliOptions(Options):
    """What a program is learned from, and how."""

    generation: GenerationOptions = Field(GenerationOptions(), description="Examples.")
    prompt: PromptOptions = Field(PromptOptions(), description="What the system turn tells.")
    pairs: CliPairOptions = Field(CliPairOptions(), description="Preference pairs.")
    answer_rows: int = Field(
        400,
        ge=1,
        description="Training rows that the SFT model answers, so that its mistakes become pairs.",
    )
    test_share: float = Field(
        0.1, gt=0, lt=1, description="Share of the examples that is held out for the judgement."
    )
