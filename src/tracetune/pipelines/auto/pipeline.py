"""``auto``: telemetry → rows → (too few: candidates for people) → decision → SFT, DPO or KTO.

The graph holds every way; ``auto.decision`` says which one is taken, and the stages of the others
hand on a folder with the reason why they did not train. With too few rows candidates are written
and the run ends with the status ``waiting`` until people have approved enough of them.

Contract: reads ``phoenix``, ``spans`` and ``annotations`` of the tenant, the ``reviews`` and the
kept replies (``llm``) of tenant and name, and the cache of embedded models; ends in ``auto.report``
and ``auto.release.adapter``.
"""

from kedro.pipeline import Pipeline

from tracetune.pipelines.judgement_stage import judgement_stage
from tracetune.pipelines.prepare_stage import decide_auto, decide_node, prepare_stage
from tracetune.pipelines.synthesis_stage import synthesis_stage
from tracetune.pipelines.telemetry_stage import telemetry_stage
from tracetune.pipelines.training_stage import dpo_stage, kto_stage, real_stage, sft_stage

NAME = "auto"


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from telemetry to a judged adapter, by the method that fits the rows."""
    decide = decide_node(decide_auto, "dpo", "sft", "kto", "dry_run", documents=["review"])
    return Pipeline(
        [
            telemetry_stage(NAME, prefix="real_"),
            synthesis_stage(),
            prepare_stage(NAME, decide, pairs=True),
            real_stage(NAME),
            sft_stage(NAME),
            dpo_stage(NAME),
            kto_stage(NAME),
            judgement_stage(NAME, ("real", "sft", "dpo", "kto"), synthetic=True),
        ],
        tags=NAME,
    )
