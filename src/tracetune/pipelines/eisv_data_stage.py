"""The first stage of ``eisv``: source → windows → mix → examples of three variants → manifest."""

from __future__ import annotations

from typing import Any, cast

from kedro.pipeline import Node, Pipeline

from tracetune.eisv.anima_db import AnimaDatabase
from tracetune.eisv.eisv_options import EisvOptions
from tracetune.eisv.published import PublishedTable
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.training_stage import select_rows
from tracetune.records import EisvTrajectory, Example

Document = dict[str, Any]


def read_trajectories(
    anima: AnimaDatabase, published_eisv: PublishedTable, eisv: EisvOptions, tenant: str
) -> tuple[list[EisvTrajectory], Document]:
    """The windows of the source that ``eisv.data.source`` names, and what became of its states."""
    from tracetune.eisv.recording import empty_recording
    from tracetune.eisv.windows import trajectories_of

    data = eisv.data
    if data.source == "published":
        rows, report = published_eisv.read(data.windows, tenant=tenant)
    else:
        read = empty_recording() if data.source == "none" else anima.read(data.bad_states)
        rows, report = trajectories_of(read, data.windows, tenant=tenant)
    return rows, {"source": data.source, **report}


def mix_trajectories(
    measured: list[EisvTrajectory], eisv: EisvOptions, tenant: str, seed: int
) -> tuple[list[EisvTrajectory], Document]:
    """All rows of the source, and generated ones of the shapes that are rare in it."""
    from tracetune.eisv.mix import fill_up

    return fill_up(measured, eisv.data.mix, tenant=tenant, seed=seed)


def make_examples(
    trajectories: list[EisvTrajectory], eisv: EisvOptions, seed: int
) -> tuple[list[Example], Document]:
    """Rows of every variant, all with the same answers, and where the answers come from."""
    from tracetune.eisv.examples import examples_of
    from tracetune.eisv.prompt import VARIANTS

    rows: list[Example] = []
    reports: Document = {}
    for variant in VARIANTS:
        made, reports[variant] = examples_of(
            trajectories,
            variant=variant,
            seed=seed,
            measured_expressions=eisv.measured_expressions,
        )
        rows += made
    return rows, reports


def split_windows(
    trajectories: list[EisvTrajectory], examples: list[Example], eisv: EisvOptions, seed: int
) -> tuple[Document, Document]:
    """One manifest for windows and rows of all variants, and what the division came to."""
    from tracetune.splits import assign_by_block
    from tracetune.splits_blocks import Placed, block_report

    options = eisv.data.split
    manifest = assign_by_block([*trajectories, *examples], options=options, seed=seed)
    placed = {row_id: (place.split, place.reason) for row_id, place in manifest.rows.items()}
    report = block_report(trajectories, cast(dict[str, Placed], placed), options)
    return manifest.model_dump(mode="json"), report


def select_variant(
    splits: Document, examples: list[Example], *, variant: str
) -> tuple[list[Example], list[Example]]:
    """The training and validation rows of one variant."""
    return select_rows(splits, of_variant(examples, variant))


def of_variant(rows: list[Example], variant: str) -> list[Example]:
    """The rows of one variant."""
    return [row for row in rows if row.tags["variant"] == variant]


def eisv_data_stage(pipeline: str) -> Pipeline:
    """``anima``, ``published_eisv`` → ``trajectories``, ``examples``, ``splits`` and reports.

    Args:
        pipeline: Name of the pipeline.
    """
    return Pipeline(
        [
            Node(
                read_trajectories,
                inputs=["anima", "published_eisv", "params:eisv", "params:tenant"],
                outputs=["measured", "windows"],
                name="read_trajectories",
                tags="trajectories",
            ),
            Node(
                mix_trajectories,
                inputs=["measured", "params:eisv", "params:tenant", "params:seed"],
                outputs=["trajectories", "mix"],
                name="mix_trajectories",
                tags="trajectories",
            ),
            Node(
                make_examples,
                inputs=["trajectories", "params:eisv", "params:seed"],
                outputs=["examples", "labels"],
                name="make_examples",
                tags="trajectories",
            ),
            Node(
                split_windows,
                inputs=["trajectories", "examples", "params:eisv", "params:seed"],
                outputs=["splits", "blocks"],
                name="split_windows",
                tags="splits",
            ),
        ],
        namespace=f"{pipeline}.data",
        inputs={"anima", "published_eisv"},
        outputs=shared(
            pipeline,
            *("measured", "windows", "trajectories", "mix", "examples", "labels"),
            *("splits", "blocks"),
        ),
        parameters={"eisv", "tenant", "seed"},
    )
