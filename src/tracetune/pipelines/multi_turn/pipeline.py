"""``multi_turn``: sessions → conversations → splits → SFT → judgement per turn → released adapter.

Contract: reads ``phoenix``, ``spans``, ``annotations`` and ``sessions`` of the tenant and the cache
of embedded models; ends in ``multi_turn.report`` and ``multi_turn.release.adapter``. The sessions
are kept as ``multi_turn.trajectories`` (JSONL) and ``multi_turn.trajectories_table`` (Parquet).
"""

from kedro.pipeline import Pipeline

from tracetune.pipelines.judgement_stage import collect_conversations, judgement_stage
from tracetune.pipelines.prepare_stage import (
    decide_node,
    decide_sft,
    prepare_stage,
    resolve_previous_talk,
)
from tracetune.pipelines.session_stage import session_stage
from tracetune.pipelines.training_stage import sft_stage

NAME = "multi_turn"


def create_pipeline(**kwargs: object) -> Pipeline:
    """The whole way from sessions to a judged adapter."""
    return Pipeline(
        [
            session_stage(NAME),
            prepare_stage(
                NAME,
                decide_node(decide_sft, NAME, "dry_run"),
                pairs=False,
                previous=resolve_previous_talk,
            ),
            sft_stage(NAME, parameters=NAME),
            judgement_stage(NAME, ("sft",), rows=("examples",), collect=collect_conversations),
        ],
        tags=NAME,
    )
