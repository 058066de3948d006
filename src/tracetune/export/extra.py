"""The packages of the extra ``gguf``: a clear error where they are missing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from tracetune.errors import ConfigurationError


def require() -> None:
    """Checks that the packages of GGUF files are installed.

    Raises:
        ConfigurationError: One is not.
    """
    missing = [name for name in ("gguf", "xllamacpp") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"what writes and runs GGUF files is not installed ({', '.join(missing)})",
            remedy="install the extra: pip install 'tracetune[gguf]'",
        )


def runtime() -> Any:
    """The module ``xllamacpp``."""
    require()
    import xllamacpp

    return xllamacpp
