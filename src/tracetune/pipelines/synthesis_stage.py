"""The synthesis stage: too few rows → candidates → people → approved rows → one split manifest.

What is missing is counted as ``auto`` counts it. Candidates go to the review of the tenant and name
and are never trained on before a person approved them; what was approved joins the real rows. In a
dry run nothing is written and nothing is paid for.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.datasets.llm_dataset import LlmAccess
from tracetune.datasets.review_dataset import Reviews
from tracetune.errors import ConfigurationError
from tracetune.llm.options import LlmOptions
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.prepare_stage import auto_thresholds, checked_flag, count_rows
from tracetune.privacy import PrivacyOptions
from tracetune.records import SYNTHETIC, Example, Preference, Rating, ReviewItem
from tracetune.review.items import ReviewedItem
from tracetune.review.options import ReviewOptions
from tracetune.splits import SplitManifest, SplitOptions, add_training_rows
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.synthesis.options import SynthesisOptions
from tracetune.training.options import DpoOptions, KtoOptions, SftOptions

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
else:
    Figure = Any

logger = logging.getLogger("tracetune")

PIPELINE = "auto"
"""The pipeline that this stage belongs to."""

Document = dict[str, Any]


def collect_reviews(
    reviews: Reviews,
    review: ReviewOptions,
    telemetry: TelemetryOptions,
    tenant: str,
    name: str,
    dry_run: bool,
) -> tuple[list[ReviewedItem], list[ReviewedItem]]:
    """Every candidate with what people said of it, in Phoenix too if they review there.

    Returns:
        All candidates ever submitted, and the rejected ones that are to be written anew.

    Raises:
        ConfigurationError: The project of the review is that of the telemetry.
    """
    store = reviews.store
    if review.place == "phoenix" and review.project_of(tenant, name) == telemetry.project:
        raise ConfigurationError(
            f"candidates would go into the project {telemetry.project!r}, which telemetry is read "
            "from",
            where="review.project",
            remedy="give the review a project of its own",
        )
    if review.place == "phoenix" and not checked_flag(dry_run):
        from tracetune.review.phoenix_place import pull

        with closing(reviews.server(review.url)) as server:
            pulled = pull(server, review.project_of(tenant, name), store, review)
        logger.info("%d new decisions were made in Phoenix", pulled.decided)
        for problem in pulled.problems:
            logger.warning("An annotation in Phoenix decides nothing: %s", problem)
    return store.items(), store.rejected_for_rewriting(review.max_attempts)


def plan_candidates(
    real_examples: list[Example],
    real_preferences: list[Preference],
    ratings: list[Rating],
    real_splits: Document,
    reviewed: list[ReviewedItem],
    to_rewrite: list[ReviewedItem],
    telemetry: TelemetryOptions,
    synthesis: SynthesisOptions,
    dpo: DpoOptions,
    sft: SftOptions,
    kto: KtoOptions,
    tenant: str,
) -> Document:
    """What is missing after everything that was approved, and for which answers it is written."""
    from tracetune.review.items import ACCEPTED, OPEN
    from tracetune.telemetry.synthesis.approved import rows_of
    from tracetune.telemetry.synthesis.plan import Rewrite, make_plan
    from tracetune.training.decision import missing_rows

    accepted = [found.final for found in reviewed if found.state in ACCEPTED]
    rows = rows_of(accepted, telemetry, tenant)
    manifest = add_training_rows(
        SplitManifest.model_validate(real_splits),
        [*real_examples, *real_preferences, *ratings],
        [*rows.examples, *rows.preferences],
    )
    plan = make_plan(
        missing=missing_rows(count_rows(manifest), auto_thresholds(dpo, sft, kto)),
        open_items=[found.item for found in reviewed if found.state in OPEN],
        submitted=len(reviewed),
        rewrites=[
            Rewrite(item=found.item, words=found.why, attempt=found.item.attempt + 1)
            for found in to_rewrite
        ],
        examples=manifest.select([*real_examples, *rows.examples], "train"),
        preferences=manifest.select([*real_preferences, *rows.preferences], "train"),
        output=telemetry.output,
        options=synthesis,
    )
    return plan.model_dump(mode="json")


def write_candidates(
    need: Document,
    real_examples: list[Example],
    real_preferences: list[Preference],
    ratings: list[Rating],
    real_splits: Document,
    reviewed: list[ReviewedItem],
    llm_access: LlmAccess,
    llm: LlmOptions,
    telemetry: TelemetryOptions,
    synthesis: SynthesisOptions,
    splits: SplitOptions,
    privacy: PrivacyOptions,
    seed: int,
    dry_run: bool,
) -> tuple[list[ReviewItem], Document]:
    """Has candidates written and keeps those that fit the schema and resemble nothing that exists.

    Returns:
        Candidates for review, and the report on what was asked for and what came.
    """
    from tracetune.llm.estimate import most_usd
    from tracetune.telemetry.synthesis.plan import SynthesisPlan
    from tracetune.telemetry.synthesis.screen import Screen
    from tracetune.telemetry.synthesis.write import GenerationReport, plan_requests
    from tracetune.telemetry.synthesis.write import write_candidates as write

    plan = SynthesisPlan.model_validate(need)
    if plan.state != "write":
        return [], GenerationReport().model_dump(mode="json")
    rows: list[Example | Preference | Rating] = [*real_examples, *real_preferences, *ratings]
    train = SplitManifest.model_validate(real_splits).select(real_examples, "train")
    if checked_flag(dry_run):
        asked = plan_requests(plan, train=train, telemetry=telemetry, options=synthesis, seed=seed)
        report = GenerationReport(planned_requests=len(asked), most_usd=most_usd(asked, llm))
        return [], report.model_dump(mode="json")
    writer = llm_access.open(llm, seed)
    candidates, report = write(
        plan,
        writer=writer,
        screen=Screen(
            telemetry=telemetry,
            splits=splits,
            privacy=privacy,
            real=[row.prompt[-1].content for row in rows],
            before=[found.item for found in reviewed],
            shown=train,
            written_by=writer.label,
        ),
        train=train,
        telemetry=telemetry,
        options=synthesis,
        seed=seed,
    )
    return candidates, report.model_dump(mode="json")


def submit_candidates(
    candidates: list[ReviewItem],
    reviews: Reviews,
    review: ReviewOptions,
    telemetry: TelemetryOptions,
    tenant: str,
    name: str,
    dry_run: bool,
) -> tuple[list[ReviewItem], Document]:
    """Hands the candidates to the reviewers; gives what is approved by now, and what waits."""
    from tracetune.review import places
    from tracetune.review.items import ACCEPTED, ReviewSpec
    from tracetune.runs import utc_now

    if candidates:
        reviews.store.submit(
            candidates,
            ReviewSpec(output=telemetry.output, max_chars=telemetry.max_chars),
            auto_approve_from=review.threshold if review.auto_approve else None,
            at=utc_now(),
        )
    found = reviews.store.items()
    if review.place == "phoenix" and not checked_flag(dry_run):
        from tracetune.review.phoenix_place import push

        with closing(reviews.server(review.url)) as server:
            push(server, review.project_of(tenant, name), found, review, at=utc_now())
    approved = [item.final for item in found if item.state in ACCEPTED]
    return approved, places.summary(found, review, tenant, name, submitted=len(candidates))


def join_rows(
    real_examples: list[Example],
    real_preferences: list[Preference],
    ratings: list[Rating],
    real_splits: Document,
    approved: list[ReviewItem],
    telemetry: TelemetryOptions,
    tenant: str,
) -> tuple[list[Example], list[Preference], Document]:
    """Real rows and approved synthetic ones, and the manifest that divides them all."""
    from tracetune.telemetry.synthesis.approved import LEFT_OUT, rows_of

    rows = rows_of(approved, telemetry, tenant)
    for reason, count in rows.left_out.items():
        logger.warning("%d approved candidates are left out: %s", count, LEFT_OUT[reason])
    manifest = add_training_rows(
        SplitManifest.model_validate(real_splits),
        [*real_examples, *real_preferences, *ratings],
        [*rows.examples, *rows.preferences],
    )
    return (
        [*real_examples, *rows.examples],
        [*real_preferences, *rows.preferences],
        manifest.model_dump(mode="json"),
    )


def compare_rows(
    need: Document,
    generation: Document,
    review: Document,
    examples: list[Example],
    splits: Document,
    telemetry: TelemetryOptions,
    seed: int,
) -> tuple[Document, Figure]:
    """How far approved synthetic rows are from real ones, with how they came to be."""
    from tracetune.evaluation import distance

    train = SplitManifest.model_validate(splits).select(examples, "train")
    found = distance.compare(
        [row for row in train if row.provenance.source != SYNTHETIC],
        [row for row in train if row.provenance.source == SYNTHETIC],
        telemetry.output,
        seed=seed,
    )
    document = {
        "plan": {key: need[key] for key in ("state", "reason", "missing", "waiting")},
        "generation": generation,
        "review": review,
        "distance": found,
    }
    return document, distance.figure(found)


def synthesis_stage() -> Pipeline:
    """Real rows and reviews → candidates → rows, ``splits`` and ``synthetic``."""
    pipeline = PIPELINE
    real = ["real_examples", "real_preferences", "ratings", "real_splits"]
    return Pipeline(
        [
            Node(
                collect_reviews,
                inputs=[
                    *("reviews", "params:review", "params:telemetry"),
                    *("params:tenant", "params:name", "params:dry_run"),
                ],
                outputs=["reviewed", "to_rewrite"],
                name="collect_reviews",
                tags="review",
            ),
            Node(
                plan_candidates,
                inputs=[
                    *real,
                    *("reviewed", "to_rewrite", "params:telemetry", "params:synthesis"),
                    *("params:dpo", "params:sft", "params:kto", "params:tenant"),
                ],
                outputs="need",
                name="plan_candidates",
                tags="synthesis",
            ),
            Node(
                write_candidates,
                inputs=[
                    *("need", *real, "reviewed", "llm", "params:llm", "params:telemetry"),
                    *("params:synthesis", "params:splits", "params:privacy", "params:seed"),
                    "params:dry_run",
                ],
                outputs=["candidates_for_review", "generation"],
                name="write_candidates",
                tags=["synthesis", "remote"],
            ),
            Node(
                submit_candidates,
                inputs=[
                    *("candidates_for_review", "reviews", "params:review", "params:telemetry"),
                    *("params:tenant", "params:name", "params:dry_run"),
                ],
                outputs=["approved", "review"],
                name="submit_candidates",
                tags="review",
            ),
            Node(
                join_rows,
                inputs=[*real, "approved", "params:telemetry", "params:tenant"],
                outputs=["examples", "preferences", "splits"],
                name="join_rows",
                tags="splits",
            ),
            Node(
                compare_rows,
                inputs=[
                    *("need", "generation", "review", "examples", "splits"),
                    *("params:telemetry", "params:seed"),
                ],
                outputs=["synthetic", "figure_distance"],
                name="compare_rows",
                tags="judgement",
            ),
        ],
        namespace=f"{pipeline}.synthesis",
        inputs={**shared(pipeline, *real), "reviews": "reviews", "llm": "llm"},
        outputs=shared(
            pipeline,
            *(
                "reviewed",
                "to_rewrite",
                "need",
                "candidates_for_review",
                "generation",
                "approved",
                "review",
            ),
            *("examples", "preferences", "splits", "synthetic", "figure_distance"),
        ),
        parameters={
            *("review", "telemetry", "synthesis", "dpo", "sft", "kto", "llm", "splits"),
            *("privacy", "tenant", "name", "seed", "dry_run"),
        },
    )
