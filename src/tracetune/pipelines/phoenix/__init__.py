"""The pipeline ``phoenix``: read a live server into the snapshot of the tenant."""

from tracetune.pipelines.phoenix.pipeline import create_pipeline

__all__ = ["create_pipeline"]
