"""The export stage: the released adapter as GGUF with everything around it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kedro.pipeline import Node, Pipeline

from tracetune.export.options import ExportOptions
from tracetune.runs import read_status, write_skipped

Document = dict[str, Any]


def export_adapter(
    adapter: Path, options: ExportOptions, name: str, work: Path
) -> tuple[Path, Document, str]:
    """The exported folder, its manifest, and a few lines for people.

    A release without a trained adapter, or one whose base is not on this machine, is handed on as
    what it is: the folder holds only the status, the report says why.
    """
    from tracetune.export.merge import hosted_base

    folder = work / "model"
    status = read_status(adapter)
    state, reason = status.status, status.reason
    if state == "trained" and (away := hosted_base(adapter)):
        state, reason = "skipped", away
    if state != "trained":
        shutil.rmtree(folder, ignore_errors=True)
        write_skipped(folder, reason, state)
        report = {"status": state, "reason": reason}
        return folder, report, f"Export     nothing was exported ({state}: {reason})"
    return _export(adapter, options, name, folder)


def export_source(
    source: Document, options: ExportOptions, name: str, work: Path
) -> tuple[Path, Document, str]:
    """The same for a release that a first node has found."""
    folder, report, summary = _export(Path(source["path"]), options, name, work / "model")
    origin = {"pipeline": source["pipeline"], "version": source["version"]}
    lines = f"Exported   the release of {source['pipeline']}, {source['version']}\n{summary}"
    return folder, {**report, "source": origin}, lines


def _export(
    adapter: Path, options: ExportOptions, name: str, folder: Path
) -> tuple[Path, Document, str]:
    from tracetune.export.card import summary
    from tracetune.export.job import export

    manifest = export(adapter, folder, name=name, options=options)
    return folder, {"status": "trained", "reason": "", **manifest}, summary(manifest)


def export_stage(pipeline: str) -> Pipeline:
    """``<pipeline>.release.adapter`` → ``<pipeline>.export.model`` and ``….report``.

    Args:
        pipeline: Name of the pipeline; it stands behind its release stage.
    """
    return _stage(pipeline, export_adapter, {"adapter": f"{pipeline}.release.adapter"})


def found_stage(pipeline: str) -> Pipeline:
    """The same for the release that ``<pipeline>.source`` names, whichever pipeline made it."""
    return _stage(pipeline, export_source, {"source": f"{pipeline}.source"})


def _stage(pipeline: str, function: Any, given: dict[str, str]) -> Pipeline:
    return Pipeline(
        [
            Node(
                function,
                inputs=[*given, "params:export", "params:name", "work"],
                outputs=["model", "report", "summary"],
                name="export",
                tags="export",
            )
        ],
        namespace=f"{pipeline}.export",
        inputs=given,
        parameters={"export", "name"},
    )
