"""The pipeline ``export``: a released adapter as a model that other programs run."""

from tracetune.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]
