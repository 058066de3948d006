"""The pipeline ``multi_turn``: whole conversations, from telemetry to a judged adapter."""

from tracetune.pipelines.multi_turn.pipeline import create_pipeline

__all__ = ["create_pipeline"]
