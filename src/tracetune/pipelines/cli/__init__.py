"""The pipeline ``cli``."""

from tracetune.pipelines.cli.pipeline import create_pipeline

__all__ = ["create_pipeline"]
