"""Names across namespaces: what a stage takes from its pipeline and hands on to it."""

from __future__ import annotations


def shared(pipeline: str, *names: str) -> dict[str, str]:
    """Datasets of the pipeline that a stage sees under their short names.

    A stage lies in the namespace ``<pipeline>.<stage>``; everything in it that is not mapped gets
    that prefix. What it shares with other stages has the prefix ``<pipeline>`` only.
    """
    return {name: f"{pipeline}.{name}" for name in names}
