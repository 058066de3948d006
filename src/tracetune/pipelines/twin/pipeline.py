"""``twin``: conversations → clean records → SFT → DPO → judgement → adapter, report.

Contract: reads ``conversations`` of the tenant, the kept replies (``llm``), jobs that run elsewhere
(``jobs``) and the cache of embedded models; ends in ``twin.report`` and ``twin.release.adapter``.
The records that others take are ``twin.sft_records``, ``twin.pair_records``, ``twin.eval_cases``.
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
from tracetune.pipelines.twin_judgement_stage import twin_judgement_stage
from tracetune.pipelines.twin_report_stage import twin_report_stage

NAME = "twin"


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from exports of conversations to a judged adapter."""
    return Pipeline(
        [
            twin_corpus_stage(NAME),
            prepare_stage(
                NAME,
                decide_node(decide_twin, "twin_sft", "twin_dpo", "dry_run"),
                pairs=False,
                previous=resolve_previous_twin,
            ),
            sft_stage(NAME, parameters="twin_sft"),
            dpo_stage(NAME, "twin_dpo"),
            twin_judgement_stage(NAME),
            twin_report_stage(NAME),
        ],
        tags=NAME,
    )
