"""The pipeline ``sft``: approved answers become a judged adapter."""

from tracetune.pipelines.sft.pipeline import create_pipeline

__all__ = ["create_pipeline"]
