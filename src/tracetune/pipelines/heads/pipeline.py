"""``heads``: conversations → phase 1 (LoRA) → heads on the frozen result → judgement → release.

Contract: reads ``conversations`` of the tenant and the cache of embedded models; ends in
``heads.report`` and ``heads.release.adapter``.
"""

from kedro.pipeline import Pipeline

from tracetune.pipelines.heads_data_stage import VARIANTS, heads_data_stage
from tracetune.pipelines.heads_judgement_stage import heads_judgement_stage
from tracetune.pipelines.heads_report_stage import heads_report_stage
from tracetune.pipelines.heads_training_stage import decide_heads, heads_stage
from tracetune.pipelines.prepare_stage import decide_node, prepare_stage
from tracetune.pipelines.training_stage import sft_stage

NAME = "heads"


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from exports of conversations to judged heads."""
    return Pipeline(
        [
            heads_data_stage(NAME),
            prepare_stage(
                NAME,
                decide_node(decide_heads, "heads", "heads_sft", "dry_run"),
                pairs=False,
                previous=None,
            ),
            sft_stage(NAME, parameters="heads_sft"),
            *(heads_stage(NAME, variant) for variant in VARIANTS),
            heads_judgement_stage(NAME),
            heads_report_stage(NAME),
        ],
        tags=NAME,
    )
