"""``eisv``: trajectories → windows → three teachers → students → both gates → report, adapter.

Contract: reads the database ``anima`` or the table ``published_eisv`` of the tenant and name (or
neither, by ``eisv.data.source``) and the cache of embedded models; ends in ``eisv.report``,
``eisv.student.model`` and ``eisv.release.adapter``.
"""

from kedro.pipeline import Pipeline

from tracetune.eisv.prompt import VARIANTS
from tracetune.pipelines.eisv_data_stage import eisv_data_stage, select_variant
from tracetune.pipelines.eisv_judgement_stage import eisv_judgement_stage
from tracetune.pipelines.eisv_report_stage import eisv_report_stage
from tracetune.pipelines.eisv_student_stage import eisv_student_stage
from tracetune.pipelines.prepare_stage import decide_eisv, decide_node, prepare_stage
from tracetune.pipelines.train_node import for_stage
from tracetune.pipelines.training_stage import sft_stage

NAME = "eisv"


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from recorded states to a judged teacher and its students."""
    teachers = [
        sft_stage(
            NAME,
            parameters="eisv_sft",
            stage=variant,
            select=for_stage(select_variant, variant=variant),
        )
        for variant in VARIANTS
    ]
    return Pipeline(
        [
            eisv_data_stage(NAME),
            prepare_stage(
                NAME,
                decide_node(decide_eisv, "eisv", "eisv_sft", "dry_run"),
                pairs=False,
                previous=None,
            ),
            *teachers,
            eisv_student_stage(NAME),
            eisv_judgement_stage(NAME),
            eisv_report_stage(NAME),
        ],
        tags=NAME,
    )
