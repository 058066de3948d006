"""The pipeline ``heads``."""

from tracetune.pipelines.heads.pipeline import create_pipeline

__all__ = ["create_pipeline"]
