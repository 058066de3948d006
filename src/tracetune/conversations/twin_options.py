"""Parameters of the pipeline ``twin``: what is corrected, paired and held out."""

from __future__ import annotations

from pydantic import Field

from tracetune.conversations.options import SurgeryOptions
from tracetune.conversations.sides import SideOptions
from tracetune.options import Options


class TwinOptions(Options):
    """From conversations to divided rows."""

    surgery: SurgeryOptions = Field(
        SurgeryOptions(), description="What counts as stalling, what is rewritten, which pairs."
    )
    split: SideOptions = Field(SideOptions(), description="How conversations are divided.")
