"""Which release is exported: the newest trained one, of one pipeline or of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracetune.errors import ConfigurationError, DataError
from tracetune.files import read_json
from tracetune.runs import read_status

_OTHERS = {"embedding": "an encoder", "heads": "heads on a frozen base"}
"""Methods that make no language model, and what they make."""


def find(released: Path, pipeline: str | None) -> dict[str, Any]:
    """The newest release that holds a trained adapter.

    Args:
        released: Folder of the models of a tenant and name: ``<pipeline>/release/adapter/…``.
        pipeline: Name of a pipeline. None: the newest of all that train a language model; encoders
            and heads have no GGUF and are passed over.

    Returns:
        ``path``, ``pipeline`` and ``version``.

    Raises:
        ConfigurationError: The named pipeline has released nothing; names those that have.
        DataError: There is no trained release; says why the newest was none.
    """
    versions = sorted(
        released.glob(f"{pipeline or '*'}/release/adapter/*/adapter/status.json"),
        key=lambda path: path.parents[1].name,
        reverse=True,
    )
    reasons = []
    for status in versions:
        folder, version = status.parent, status.parents[1].name
        name = status.parents[4].name
        found = read_status(folder)
        if found.status != "trained":
            reasons.append(f"{name} {version} is {found.status}: {found.reason}")
        elif pipeline is None and (kind := _OTHERS.get(_method(folder))):
            reasons.append(f"{name} {version} is {kind}")
        else:
            return {"path": str(folder.resolve()), "pipeline": name, "version": version}
    if reasons:
        raise DataError(
            f"there is no trained adapter to export; the newest release: {reasons[0]}",
            where=str(released),
            remedy="run the pipeline again once it can train, or name another: export.from",
        )
    others = sorted({path.parents[3].name for path in released.glob("*/release/adapter/*/adapter")})
    if pipeline is not None and others:
        raise ConfigurationError(
            f"the pipeline {pipeline!r} has released nothing for this tenant and name",
            where="export.from",
            remedy=f"name one that has: {', '.join(others)}, or run {pipeline!r} first",
        )
    raise DataError(
        "no pipeline has released an adapter for this tenant and name",
        where=str(released),
        remedy=f"run one first: kedro run --pipeline={pipeline or 'dpo'}, with the same tenant "
        "and name",
    )


def _method(folder: Path) -> str:
    """How a trained release was trained."""
    return str(read_json(folder / "manifest.json")["method"])
