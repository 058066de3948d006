"""``twin``: conversations → clean records → SFT → DPO → adapter of one's own way of working.

Contract: reads ``conversations`` of the tenant, the kept replies (``llm``) and the cache of
embedded models; ends in ``twin.sft.adapter`` and ``twin.dpo.adapter``.
"""

from kedro.pipeline import Pipeline

from tracetune.pipelines.prepare_stage import (
    decide_node,
    decide_twin,
    prepare_stage,
    resolve_previous_twin,
)
from tracetune.pipelines.training_stage import dpo_stage, sft_stage
from tracetune.pipelines.twin_corpus_stage import twin_corpus_stage

NAME = "twin"


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from exports of conversations to a judged adapter."""
    return Pipeline(
        [
            twin_corpus_stage(NAME),
            prepare_stage(
                NAME,
                decide_node(decide_twin, "twin_sft", "twin_dpo", "dry_run"),
                pairs=True,
                previous=resolve_previous_twin,
            ),
            sft_stage(NAME, parameters="twin_sft"),
            dpo_stage(NAME, "twin_dpo"),
        ],
        tags=NAME,
    )
