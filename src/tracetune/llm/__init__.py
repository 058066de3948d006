"""Text written for training data: one interface, an offline generator, and Anthropic's API."""

from tracetune.llm.contracts import (
    OUTCOMES,
    Grammar,
    TextRequest,
    TextResult,
    TextWriter,
    Unfinished,
    Usage,
)
from tracetune.llm.options import LlmOptions
from tracetune.llm.spending import Spending, spent
from tracetune.llm.writers import open_writer

__all__ = [
    "OUTCOMES",
    "Grammar",
    "LlmOptions",
    "Spending",
    "TextRequest",
    "TextResult",
    "TextWriter",
    "Unfinished",
    "Usage",
    "open_writer",
    "spent",
]
