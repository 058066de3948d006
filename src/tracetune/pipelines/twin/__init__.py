"""The pipeline ``twin``."""

from tracetune.pipelines.twin.pipeline import create_pipeline

__all__ = ["create_pipeline"]
