"""The writer that the parameters name."""

from __future__ import annotations

from pathlib import Path

from tracetune.llm.contracts import TextWriter
from tracetune.llm.options import LlmOptions


def open_writer(options: LlmOptions, *, folder: Path, api_key: str | None, seed: int) -> TextWriter:
    """Who writes text.

    Args:
        options: Provider and its parameters.
        folder: Where replies and spending of paid providers are kept.
        api_key: Key of the provider; the offline generator needs none.
        seed: Seed of the offline generator.
    """
    if options.provider == "offline":
        from tracetune.llm.offline import OfflineWriter

        return OfflineWriter(seed)
    from tracetune.llm.anthropic_writer import AnthropicWriter

    return AnthropicWriter(options, folder, api_key)
