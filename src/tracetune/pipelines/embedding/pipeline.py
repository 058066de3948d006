"""``embedding``: searches → triplets → splits → encoder → judgement → released encoder.

Contract: reads ``phoenix``, ``spans`` and ``annotations`` of the tenant, the cache of embedded
models and what was released before; ends in ``embedding.report`` and ``embedding.release.adapter``.
"""

from kedro.pipeline import Pipeline

from tracetune.pipelines.embedding_stage import embedding_prepare_stage, encoder_stage
from tracetune.pipelines.retrieval_stage import retrieval_stage
from tracetune.pipelines.search_stage import search_stage

NAME = "embedding"


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from searches to a judged encoder."""
    return Pipeline(
        [
            search_stage(NAME),
            embedding_prepare_stage(NAME),
            encoder_stage(NAME),
            retrieval_stage(NAME),
        ],
        tags=NAME,
    )
