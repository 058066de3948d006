"""The pipeline ``auto``: trains what the rows are enough for, or says what is missing."""

from tracetune.pipelines.auto.pipeline import create_pipeline

__all__ = ["create_pipeline"]
