"""The stage before training: held-out sets, base model, earlier adapter, and what is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from kedro.pipeline import Node, Pipeline

from tracetune.eisv.eisv_options import EisvOptions
from tracetune.eisv.prompt import VARIANTS
from tracetune.errors import ConfigurationError, DataError
from tracetune.pipelines.namespaces import shared
from tracetune.records import SYNTHETIC, Example, Preference
from tracetune.runs import no_release, previous_release
from tracetune.splits import SplitManifest
from tracetune.splits_derived import fitted_groups
from tracetune.telemetry.options import TelemetryOptions
from tracetune.training.base import UNKNOWN
from tracetune.training.decision import (
    KINDS,
    Counts,
    Decision,
    StageDecision,
    Thresholds,
    choose,
    demand,
)
from tracetune.training.options import (
    BaseModelOptions,
    DpoOptions,
    EmbeddedRecipe,
    KtoOptions,
    SftOptions,
)


def select_test(splits: dict[str, Any], examples: list[Example]) -> list[Example]:
    """The held-out rows."""
    return SplitManifest.model_validate(splits).select(examples, "test")


def select_test_pairs(splits: dict[str, Any], preferences: list[Preference]) -> list[Preference]:
    """The held-out pairs."""
    return SplitManifest.model_validate(splits).select(preferences, "test")


def resolve_base(
    base_model: BaseModelOptions,
    embedded: EmbeddedRecipe,
    test: list[Example],
    models: Path,
    backend: str = "local",
) -> dict[str, Any]:
    """Finds or builds the base model, and checks that no held-out row was in its text.

    Together AI trains its own copy: there a base that is not on this machine is not fetched.

    Returns:
        The base model with its hashes (:class:`tracetune.training.base.BaseModelRef`).
    """
    from tracetune.training.base import resolve
    from tracetune.training.embedded import check_no_leak

    base = resolve(base_model, models, embedded, hosted=backend == "together")
    if base.kind == "embedded":
        check_no_leak(embedded, [_said(row) for row in test])
    return base.model_dump(mode="json")


def _said(row: Example) -> str:
    """What the user says in a row; the lines of a context before it would hide a likeness."""
    from tracetune.training.embedded_programs import request_of

    text = row.prompt[-1].content
    return request_of(text) if row.tags.get("context") == "yes" else text


def resolve_previous(
    released: Path, base: dict[str, Any], splits: dict[str, Any], telemetry: TelemetryOptions
) -> dict[str, Any]:
    """The newest adapter released earlier for this tenant, name, base and agent type, or none."""
    output = telemetry.output.model_dump(mode="json")
    task = {name: output[name] for name in ("compare", "target")}
    return _previous(released, base, splits, task)


def resolve_previous_talk(
    released: Path, base: dict[str, Any], splits: dict[str, Any]
) -> dict[str, Any]:
    """The same for an assistant that answers in words."""
    return _previous(released, base, splits, {"compare": "text"})


def _previous(
    released: Path,
    base: dict[str, Any],
    splits: dict[str, Any],
    task: dict[str, Any],
    *,
    fitted_alike: bool = False,
) -> dict[str, Any]:
    if base["weights_sha256"] == UNKNOWN:
        return no_release("the base is hosted: an earlier adapter cannot be compared on it here")
    manifest = SplitManifest.model_validate(splits)
    groups = fitted_groups(manifest) if fitted_alike else None
    return previous_release(released, base["weights_sha256"], manifest.test_start, task, groups)


def decide_dpo(splits: dict[str, Any], dpo: DpoOptions, dry_run: bool) -> dict[str, Any]:
    """DPO, after SFT or not; too few pairs stop the run."""
    thresholds = Thresholds(pairs=dpo.min_dpo_pairs, examples=0)
    return _demand("dpo", splits, thresholds, dry_run, with_sft=dpo.start_from == "sft")


def decide_sft(splits: dict[str, Any], sft: SftOptions, dry_run: bool) -> dict[str, Any]:
    """SFT; too few rows stop the run."""
    return _demand("sft", splits, Thresholds(pairs=0, examples=sft.min_sft_examples), dry_run)


def decide_auto(
    splits: dict[str, Any],
    review: dict[str, Any],
    dpo: DpoOptions,
    sft: SftOptions,
    kto: KtoOptions,
    dry_run: bool,
) -> dict[str, Any]:
    """The method that the rows are enough for, or none; waits while candidates wait for people."""
    decision = choose(
        count_rows(SplitManifest.model_validate(splits)),
        auto_thresholds(dpo, sft, kto),
        dry_run=checked_flag(dry_run),
        waiting=review["open"],
    )
    return decision.model_dump(mode="json")


def decide_cli(splits: dict[str, Any], sft: SftOptions, dry_run: bool) -> dict[str, Any]:
    """SFT, then DPO on what it gets wrong; too few examples stop the run.

    How many pairs there are is known after SFT, so a second decision follows then. In a dry run
    that asks no paid writer there may be no example at all, which is a result.
    """
    counts = count_rows(SplitManifest.model_validate(splits))
    enough = Thresholds(pairs=max(1, counts.pairs + 1), examples=sft.min_sft_examples)
    if checked_flag(dry_run) and counts.examples < sft.min_sft_examples:
        return choose(counts, enough, dry_run=True).model_dump(mode="json")
    decision = demand("sft", counts, enough, dry_run=dry_run)
    stages = {**decision.stages, "dpo": decision.stages["sft"]}
    # Generated examples are checked by rules; no person approved them.
    counted = decision.reason.replace(KINDS["examples"], "checked examples")
    reason = f"{counted}, then DPO on what it gets wrong"
    changed = {"method": "dpo", "reason": reason, "stages": stages, "missing": {}}
    return decision.model_copy(update=changed).model_dump(mode="json")


def decide_twin(
    splits: dict[str, Any], sft: SftOptions, dpo: DpoOptions, dry_run: bool
) -> dict[str, Any]:
    """SFT on the gold turns, then DPO; too few turns stop the run, too few pairs leave DPO out."""
    counts = count_rows(SplitManifest.model_validate(splits))
    enough = Thresholds(pairs=dpo.min_dpo_pairs, examples=sft.min_sft_examples)
    if counts.examples < enough.examples:
        raise DataError(
            f"{counts.examples} gold turns for training, at least {enough.examples} are needed",
            where="twin_sft.min_sft_examples",
            remedy="put more conversations into data/01_raw/<tenant>/conversations; surgery.json "
            "says which rules left answers out. Fewer turns: lower the parameter",
        )
    paired = counts.pairs >= enough.pairs
    decision = demand(
        "dpo" if paired else "sft",
        counts,
        enough,
        dry_run=checked_flag(dry_run),
        with_sft=not paired or dpo.start_from == "sft",
    )
    # Turns are gold by rules; no person approved them.
    reason = decision.reason.replace(KINDS["examples"], "gold turns")
    stages, missing = decision.stages, {}
    if not paired:
        lacking = enough.pairs - counts.pairs
        why = f"{counts.pairs} pairs, at least {enough.pairs} are needed for DPO"
        stages = {**stages, "dpo": stages["dpo"].model_copy(update={"reason": why})}
        reason, missing = f"{reason}; no DPO: {why}", {"pairs": lacking}
    changed = {"reason": reason, "stages": stages, "missing": missing}
    return decision.model_copy(update=changed).model_dump(mode="json")


def auto_thresholds(dpo: DpoOptions, sft: SftOptions, kto: KtoOptions) -> Thresholds:
    """Fewest rows by kind for ``auto``."""
    return Thresholds(
        pairs=dpo.min_dpo_pairs,
        examples=sft.min_sft_examples,
        ratings=kto.min_kto_ratings if kto.allowed else None,
    )


def _demand(
    method: Literal["dpo", "sft"],
    splits: dict[str, Any],
    thresholds: Thresholds,
    dry_run: bool,
    *,
    with_sft: bool = True,
) -> dict[str, Any]:
    counts, checked = count_rows(SplitManifest.model_validate(splits)), checked_flag(dry_run)
    decision = demand(method, counts, thresholds, dry_run=checked, with_sft=with_sft)
    return decision.model_dump(mode="json")


def checked_flag(dry_run: bool) -> bool:
    """``dry_run`` itself, once it is known to be true or false.

    Raises:
        ConfigurationError: It is something else; ``--params`` gives texts too.
    """
    if not isinstance(dry_run, bool):
        raise ConfigurationError(
            f"{dry_run!r} is neither true nor false", where="dry_run", remedy="use dry_run=true"
        )
    return dry_run


def count_rows(manifest: SplitManifest) -> Counts:
    """Training rows by kind, as the manifest has them: what is left after every rule."""
    synthetic = Counter(
        row_id.partition("-")[0]
        for row_id, place in manifest.rows.items()
        if place.split == "train" and place.group.startswith(f"{SYNTHETIC}:")
    )
    return Counts(
        pairs=manifest.count("pair", "train"),
        examples=manifest.count("sft", "train"),
        good=manifest.count("good", "train"),
        bad=manifest.count("bad", "train"),
        synthetic_pairs=synthetic["pair"],
        synthetic_examples=synthetic["sft"],
    )


def resolve_previous_cli(
    released: Path, base: dict[str, Any], splits: dict[str, Any]
) -> dict[str, Any]:
    """The same for a model of a command-line program.

    Its rows have no time, and another number of examples divides them anew: an earlier adapter
    counts only if it was fitted to the same groups.
    """
    return _previous(released, base, splits, {"compare": "cli"}, fitted_alike=True)


def resolve_previous_twin(
    released: Path, base: dict[str, Any], splits: dict[str, Any]
) -> dict[str, Any]:
    """The same for a model of one's own way of working.

    Its conversations are not divided by time: an earlier adapter counts only if it was fitted to
    the same ones.
    """
    return _previous(released, base, splits, {"compare": "twin"}, fitted_alike=True)


def prepare_stage(
    pipeline: str,
    decide: Node,
    *,
    pairs: bool,
    previous: Callable[..., dict[str, Any]] | None = resolve_previous,
) -> Pipeline:
    """``splits`` and rows → held-out sets, base model, earlier adapter, decision.

    Args:
        pipeline: Name of the pipeline.
        decide: The node that decides; its output is ``decision``.
        pairs: Whether held-out pairs are needed (for the rewards of DPO).
        previous: Finds the earlier adapter of the same kind of task; None where none is judged.
    """
    telemetry = ["telemetry"] if previous is resolve_previous else []
    rows = ["examples", "preferences"] if pairs else ["examples"]
    tests = ["test", "test_pairs"] if pairs else ["test"]
    nodes = [
        Node(
            select_test,
            inputs=["splits", "examples"],
            outputs="test",
            name="select_test",
            tags="splits",
        ),
        Node(
            resolve_base,
            inputs=[
                *("params:base_model", "params:embedded", "test", "embedded_models"),
                "params:backend",
            ],
            outputs="base",
            name="resolve_base",
            tags="training",
        ),
        decide,
    ]
    if previous is not None:
        nodes.append(
            Node(
                previous,
                inputs=["released", "base", "splits", *(f"params:{name}" for name in telemetry)],
                outputs="previous",
                name="resolve_previous",
                tags="judgement",
            )
        )
    if pairs:
        nodes.append(
            Node(
                select_test_pairs,
                inputs=["splits", "preferences"],
                outputs="test_pairs",
                name="select_test_pairs",
                tags="splits",
            )
        )
    parameters = {name for name in decide.inputs if name.startswith("params:")}
    documents = set(decide.inputs) - parameters - {"splits"}
    return Pipeline(
        nodes,
        namespace=f"{pipeline}.prepare",
        inputs={
            **shared(pipeline, "splits", *rows, *sorted(documents)),
            "embedded_models": "embedded_models",
            **({"released": "released"} if previous else {}),
        },
        outputs=shared(pipeline, *tests, "base", "decision", *(["previous"] if previous else [])),
        parameters={"base_model", "embedded", "backend", *telemetry}
        | {n.removeprefix("params:") for n in parameters},
    )


def decide_eisv(
    splits: dict[str, Any], eisv: EisvOptions, sft: SftOptions, dry_run: bool
) -> dict[str, Any]:
    """One teacher per variant, if there are enough windows; too few are a result."""
    manifest, fewest = SplitManifest.model_validate(splits), sft.min_sft_examples
    windows = manifest.count("eisv", "train")
    enough, dry = windows >= fewest, checked_flag(dry_run)
    reason = f"{windows} windows reach {fewest}: one teacher for each of {', '.join(eisv.variants)}"
    if not enough:
        reason = f"too little to train on: {windows} windows for training, {fewest} are needed"
    stages = {}
    for variant in VARIANTS:
        chosen = enough and variant in eisv.variants
        why = "" if chosen else reason if not enough else "eisv.variants does not name it"
        why = "dry run: nothing is trained" if chosen and dry else why
        stages[variant] = StageDecision(chosen=chosen, train=chosen and not dry, reason=why)
    return Decision(
        method="sft" if enough else "insufficient",
        counts=Counts(pairs=0, examples=windows, good=0, bad=0),
        thresholds=Thresholds(pairs=0, examples=fewest),
        missing={} if enough else {"examples": fewest - windows},
        confidence=min(1.0, windows / (2 * fewest)) if enough else 1.0,
        reason=reason,
        dry_run=dry,
        stages=stages,
    ).model_dump(mode="json")


def decide_node(function: Any, *parameters: str, documents: Sequence[str] = ()) -> Node:
    """The node that decides, from ``splits``, further documents and the named parameters."""
    return Node(
        function,
        inputs=["splits", *documents, *(f"params:{name}" for name in parameters)],
        outputs="decision",
        name="decide",
        tags="training",
    )
