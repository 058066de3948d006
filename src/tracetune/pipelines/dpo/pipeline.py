"""``dpo``: telemetry → rows → splits → SFT → DPO on top of it → judgement → released adapter.

Contract: reads ``phoenix``, ``spans`` and ``annotations`` of the tenant and the cache of embedded
models; ends in ``dpo.report`` and ``dpo.release.adapter``.
"""

from kedro.pipeline import Pipeline

from tracetune.pipelines.judgement_stage import judgement_stage
from tracetune.pipelines.prepare_stage import decide_dpo, decide_node, prepare_stage
from tracetune.pipelines.telemetry_stage import telemetry_stage
from tracetune.pipelines.training_stage import dpo_stage, sft_stage

NAME = "dpo"


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from telemetry to a judged adapter."""
    return Pipeline(
        [
            telemetry_stage(NAME),
            prepare_stage(NAME, decide_node(decide_dpo, "dpo", "dry_run"), pairs=True),
            sft_stage(NAME),
            dpo_stage(NAME),
            judgement_stage(NAME, ("sft", "dpo")),
        ],
        tags=NAME,
    )
