"""``sft``: telemetry → approved rows → splits → SFT → judgement → released adapter.

Contract: reads ``phoenix``, ``spans`` and ``annotations`` of the tenant and the cache of embedded
models; ends in ``sft.report`` and ``sft.release.adapter``.
"""

from kedro.pipeline import Pipeline

from tracetune.pipelines.judgement_stage import judgement_stage
from tracetune.pipelines.prepare_stage import decide_node, decide_sft, prepare_stage
from tracetune.pipelines.telemetry_stage import telemetry_stage
from tracetune.pipelines.training_stage import sft_stage

NAME = "sft"


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from telemetry to a judged adapter of SFT alone."""
    return Pipeline(
        [
            telemetry_stage(NAME),
            prepare_stage(NAME, decide_node(decide_sft, "sft", "dry_run"), pairs=False),
            sft_stage(NAME),
            judgement_stage(NAME, ("sft",)),
        ],
        tags=NAME,
    )
