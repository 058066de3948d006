"""``export``: the newest trained release → merged → GGUF, Modelfile, model card.

Contract: reads what any pipeline released for the tenant and name; ends in ``export.export.model``
(a folder) and ``export.export.report``.
"""

from kedro.pipeline import Node, Pipeline

from tracetune.pipelines.export.nodes import resolve_release
from tracetune.pipelines.export_stage import found_stage

NAME = "export"


def create_pipeline(**kwargs: object) -> Pipeline:
    """From a release on the disk to the exported folder."""
    found = Pipeline(
        [
            Node(
                resolve_release,
                inputs=["released", "params:export"],
                outputs="source",
                name="resolve_release",
                tags="export",
            )
        ],
        namespace=NAME,
        inputs={"released"},
        parameters={"export"},
    )
    return Pipeline([found, found_stage(NAME)], tags=NAME)
