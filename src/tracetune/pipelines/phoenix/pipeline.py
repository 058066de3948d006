"""``phoenix``: ingest only, from a live server into ``01_raw/<tenant>/telemetry``."""

from kedro.pipeline import Node, Pipeline

from tracetune.pipelines.phoenix.nodes import ingest


def create_pipeline(**kwargs: object) -> Pipeline:
    """Server → snapshot; ``phoenix.snapshot`` holds the manifest of what was read."""
    return Pipeline(
        [
            Node(
                ingest,
                inputs=["phoenix", "params:telemetry"],
                outputs="snapshot",
                name="ingest",
                tags="telemetry",
            )
        ],
        namespace="phoenix",
        inputs="phoenix",
        parameters="telemetry",
        tags="phoenix",
    )
