"""The pipeline ``embedding``: one command from searches to a judged encoder."""

from tracetune.pipelines.embedding.pipeline import create_pipeline

__all__ = ["create_pipeline"]
