"""The first stage of ``twin``: exports → redacted conversations → records → rows → manifest."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from tracetune.conversations.twin_options import TwinOptions
from tracetune.datasets.llm_dataset import LlmAccess
from tracetune.llm.options import LlmOptions
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.prepare_stage import checked_flag
from tracetune.privacy import PrivacyOptions
from tracetune.records import ChatRewrite, Conversation, Example, Preference, Rating
from tracetune.records.ctv3 import Ctv3Extra, DpoPair, EvalCase, SftTurn

Document = dict[str, Any]


def redact_conversations(
    conversations: list[Conversation], privacy: PrivacyOptions
) -> tuple[list[Conversation], Document]:
    """The conversations without secrets and personal data: what every later step reads.

    Returns:
        The conversations and the privacy report; what its ``spans_dropped`` counts are
        conversations here.
    """
    from tracetune.conversations.read import redacted
    from tracetune.privacy import Redactor

    redactor = Redactor(privacy)
    found = [redacted(conversation, redactor) for conversation in conversations]
    kept = [conversation for conversation in found if conversation is not None]
    return kept, redactor.report().model_dump(mode="json")


def rewrite_answers(
    redacted: list[Conversation],
    llm_access: LlmAccess,
    llm: LlmOptions,
    twin: TwinOptions,
    seed: int,
    dry_run: bool,
) -> tuple[list[ChatRewrite], Document]:
    """Has the answers rewritten that stall without need or that annoyed the user.

    What was paid for once is never paid again. A dry run asks nobody who wants money: it says what
    the requests would cost at most, and nothing is rewritten.

    Returns:
        What became of each answer, and the report
        (:class:`tracetune.conversations.rewrite.RewriteReport`).
    """
    from tracetune.conversations.rewrite import RewriteReport, requests, rewrite
    from tracetune.conversations.survey import survey
    from tracetune.llm.estimate import most_usd

    surveyed = survey(redacted, twin.surgery)
    writer = llm_access.open(llm, seed)
    if checked_flag(dry_run) and llm.provider != "offline":
        asked = [request for _, _, request in requests(surveyed, twin.surgery)]
        cost = {"requests": len(asked), "most_usd": most_usd(asked, llm)}
        nothing = RewriteReport(writer=writer.label).model_dump(mode="json")
        return [], {**nothing, "dry_run": cost}
    found, report = rewrite(surveyed, writer=writer, options=twin.surgery)
    return found, report.model_dump(mode="json")


def build_records(
    redacted: list[Conversation],
    rewrites: list[ChatRewrite],
    rewriting: Document,
    twin: TwinOptions,
) -> tuple[list[SftTurn], list[DpoPair], list[EvalCase], list[Ctv3Extra], Document]:
    """CTv3.1 records of the corpus, with what became of its answers.

    Returns:
        Turns to learn, pairs, evaluation cases, extras of all of them, and the report: ``surgery``
        (:class:`tracetune.conversations.report.SurgeryReport`) and ``rewriting``.
    """
    from tracetune.conversations.build import build
    from tracetune.conversations.survey import survey

    built = build(survey(redacted, twin.surgery), rewrites, twin.surgery)
    report = {"surgery": built.report.model_dump(mode="json"), "rewriting": rewriting}
    return built.sft, built.pairs, built.evals, built.extras, report


def make_rows(
    sft_records: list[SftTurn],
    pair_records: list[DpoPair],
    eval_cases: list[EvalCase],
    extras: list[Ctv3Extra],
    tenant: str,
) -> tuple[list[Example], list[Preference], list[Rating]]:
    """Rows of the gold turns, of the pairs, and of the evaluation cases (for the division only)."""
    from tracetune.conversations.rows import examples_of, preferences_of, ratings_of

    return (
        examples_of(sft_records, extras, tenant=tenant),
        preferences_of(pair_records, extras, tenant=tenant),
        ratings_of(eval_cases, extras, tenant=tenant),
    )


def divide_rows(
    examples: list[Example],
    preferences: list[Preference],
    ratings: list[Rating],
    twin: TwinOptions,
    seed: int,
) -> Document:
    """The split manifest: whole conversations, by kind of work, the same for all kinds of rows."""
    from tracetune.conversations.sides import divide

    manifest = divide([*examples, *preferences, *ratings], options=twin.split, seed=seed)
    return manifest.model_dump(mode="json")


def twin_corpus_stage(pipeline: str) -> Pipeline:
    """``conversations`` → ``redacted``, records, ``examples``, ``preferences``, ``splits``.

    Args:
        pipeline: Name of the pipeline.
    """
    records = ["sft_records", "pair_records", "eval_cases", "extras"]
    rows = ["examples", "preferences", "ratings"]
    return Pipeline(
        [
            Node(
                redact_conversations,
                inputs=["conversations", "params:privacy"],
                outputs=["redacted", "privacy"],
                name="redact",
                tags="surgery",
            ),
            Node(
                rewrite_answers,
                inputs=[
                    *("redacted", "llm", "params:llm", "params:twin", "params:seed"),
                    "params:dry_run",
                ],
                outputs=["rewrites", "rewriting"],
                name="rewrite",
                tags=["surgery", "remote"],
            ),
            Node(
                build_records,
                inputs=["redacted", "rewrites", "rewriting", "params:twin"],
                outputs=[*records, "surgery"],
                name="build_records",
                tags="surgery",
            ),
            Node(
                make_rows,
                inputs=[*records, "params:tenant"],
                outputs=rows,
                name="make_rows",
                tags="surgery",
            ),
            Node(
                divide_rows,
                inputs=[*rows, "params:twin", "params:seed"],
                outputs="splits",
                name="divide",
                tags="splits",
            ),
        ],
        namespace=f"{pipeline}.corpus",
        inputs={"conversations", "llm"},
        outputs=shared(
            pipeline,
            *("redacted", "privacy", "rewrites", "rewriting", *records, "surgery"),
            *(*rows, "splits"),
        ),
        parameters={"privacy", "llm", "twin", "seed", "dry_run", "tenant"},
    )
