"""Measured trajectories, filled up with generated ones of the rare shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from tracetune.eisv.options import MixOptions
from tracetune.eisv.synthetic import generate, seed_of
from tracetune.eisv.vocabulary import GENERATION_ORDER
from tracetune.eisv.windows import state_rows
from tracetune.records import EisvShape, EisvTrajectory, make_eisv_trajectory


def fill_up(
    rows: Sequence[EisvTrajectory], options: MixOptions, *, tenant: str, seed: int
) -> tuple[list[EisvTrajectory], dict[str, Any]]:
    """The rows, and behind them generated ones until each shape has ``min_per_shape``.

    Args:
        rows: What there is, measured or generated elsewhere.
        options: How many, how long, how fast.
        tenant: Whose data it becomes.
        seed: Seed of the run; each item has its own seed from it.

    Returns:
        All rows, and the report: by shape how many are measured, were generated elsewhere, and were
        generated here.
    """
    made: list[EisvTrajectory] = []
    counts = Counter((row.shape, row.origin) for row in rows)
    report: dict[str, Any] = {}
    for name in GENERATION_ORDER:
        shape = cast(EisvShape, name)
        measured, given = counts[shape, "lumen_real"], counts[shape, "synthetic"]
        missing = max(0, options.min_per_shape - measured - given)
        made += [_generated(shape, i, options, tenant, seed) for i in range(missing)]
        report[shape] = {"measured": measured, "given": given, "generated": missing}
    return [*rows, *made], {"min_per_shape": options.min_per_shape, "shapes": report}


def _generated(
    shape: EisvShape, index: int, options: MixOptions, tenant: str, seed: int
) -> EisvTrajectory:
    own = seed_of(seed, shape, index)
    window = generate(shape, options.points, options.interval_s, seed=own)
    return make_eisv_trajectory(
        states=state_rows(window),
        shape=shape,
        origin="synthetic",
        source="eisv",
        tenant=tenant,
        ids={"shape": shape, "index": str(index), "seed": str(own)},
        group=f"synthetic:{shape}:{index}",
        created_at=None,
    )
