"""The pipeline ``eisv``."""

from tracetune.pipelines.eisv.pipeline import create_pipeline

__all__ = ["create_pipeline"]
