"""``dpo``: telemetry → rows → splits → SFT → DPO on top of it → judgement → released adapter.

Contract: reads ``phoenix``, ``spans`` and ``annotations`` of the tenant, ends in
``dpo.release.adapter`` and ``dpo.report``.
"""

from kedro.pipeline import Node, Pipeline

from tracetune.pipelines.dpo.nodes import release, write_report
from tracetune.pipelines.judgement_stage import judgement_stage
from tracetune.pipelines.telemetry_stage import telemetry_stage
from tracetune.pipelines.training_stage import (
    base_stage,
    dpo_training_stage,
    sets_stage,
    sft_training_stage,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from telemetry to a judged adapter."""
    parts = (
        telemetry_stage()
        + sets_stage()
        + base_stage()
        + sft_training_stage()
        + dpo_training_stage()
        + judgement_stage()
        + Pipeline(
            [
                Node(
                    release,
                    inputs={
                        "adapter": "dpo.adapter",
                        "base": "base",
                        "gate": "gate",
                        "telemetry": "params:telemetry",
                        "work": "release.work",
                    },
                    outputs="release.adapter",
                    name="release_adapter",
                    tags="release",
                ),
                Node(
                    write_report,
                    inputs={
                        "metrics": "metrics",
                    },
                    outputs=["report", "summary"],
                    name="write_report",
                    tags="report",
                ),
            ],
        )
    )
    return parts
