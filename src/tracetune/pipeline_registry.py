"""The registry: every package below ``pipelines`` by its name; ``dpo`` is the default."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline


def register_pipelines() -> dict[str, Pipeline]:
    """All pipelines by name.

    With ``--pipeline=x`` Kedro loads only ``x``, so the default is set only when ``dpo`` is there.
    """
    pipelines: dict[str, Pipeline] = find_pipelines(raise_errors=True)
    if "dpo" in pipelines:
        pipelines["__default__"] = pipelines["dpo"]
    return pipelines
