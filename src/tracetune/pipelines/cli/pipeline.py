"""``cli``: CLI schema → examples → SFT → its mistakes as pairs → DPO → judgement → adapter → GGUF.

Contract: reads ``cli_schema`` of the tenant and name, the kept replies (``llm``) and the cache of
embedded models; ends in ``cli.report``, ``cli.release.adapter`` and ``cli.export.model``.
"""

from kedro.pipeline import Pipeline

from tracetune.pipelines.cli_generation_stage import generation_stage
from tracetune.pipelines.cli_judgement_stage import cli_judgement_stage
from tracetune.pipelines.cli_preferences_stage import preferences_stage
from tracetune.pipelines.cli_report_stage import cli_report_stage
from tracetune.pipelines.export_stage import export_stage
from tracetune.pipelines.prepare_stage import (
    decide_cli,
    decide_node,
    prepare_stage,
    resolve_previous_cli,
)
from tracetune.pipelines.training_stage import dpo_stage, sft_stage

NAME = "cli"


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from a schema to a judged model file."""
    return Pipeline(
        [
            generation_stage(NAME),
            prepare_stage(
                NAME,
                decide_node(decide_cli, "cli_sft", "dry_run"),
                pairs=False,
                previous=resolve_previous_cli,
            ),
            sft_stage(NAME, parameters="cli_sft"),
            preferences_stage(NAME),
            dpo_stage(NAME, "cli_dpo", splits="pair_splits", decision="pair_decision"),
            cli_judgement_stage(NAME),
            export_stage(NAME),
            cli_report_stage(NAME),
        ],
        tags=NAME,
    )
