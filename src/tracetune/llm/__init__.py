"""Text written for training data: one interface, an offline generator, and Anthropic's API."""

from tracetune.llm.contracts import (
    OUTCOMES,
    Grammar,
    TextRequest,
    TextResult,
    TextWriter,
    Usage,
)
from tracetune.llm.options import LlmOptions

__all__ = [
    "OUTCOMES",
    "Grammar",
    "LlmOptions",
    "TextRequest",
    "TextResult",
    "TextWriter",
    "Usage",
]
