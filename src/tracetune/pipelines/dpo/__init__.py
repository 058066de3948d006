"""The pipeline ``dpo``: one command from telemetry to a judged adapter."""

from tracetune.pipelines.dpo.pipeline import create_pipeline

__all__ = ["create_pipeline"]
