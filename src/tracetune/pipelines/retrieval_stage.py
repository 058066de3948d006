"""The judgement of an encoder: ranks of all models, metrics, gate, figures, report, release."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.evaluation.retrieval_options import RetrievalOptions
from tracetune.pipelines.namespaces import shared
from tracetune.records import CatalogueDocument, SearchQuery, Triplet
from tracetune.runs import read_status
from tracetune.splits import SplitManifest, verify

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure
else:
    DataFrame = Figure = Any

Document = dict[str, Any]
FIGURES = ("losses", "quality", "differences", "slices", "funnel")


def rank_documents(
    test_queries: list[SearchQuery],
    documents: list[CatalogueDocument],
    triplets: list[Triplet],
    queries: list[SearchQuery],
    splits: Document,
    base: Document,
    encoder: Path,
    previous: Document,
    retrieval: RetrievalOptions,
) -> DataFrame:
    """Ranks of the whole catalogue for the held-out queries, by every model.

    The split manifest is checked against all rows before anything is ranked. Without a trained
    encoder nothing is ranked.
    """
    from tracetune.evaluation.retrieval import Encoder, rank
    from tracetune.training.base import BaseModelRef

    verify(SplitManifest.model_validate(splits), [*triplets, *queries])
    ref = BaseModelRef.model_validate(base)
    encoders = {"trained": Encoder(ref, encoder), "base": Encoder(ref)}
    if previous["path"] is not None:
        encoders["previous"] = Encoder(ref, Path(previous["path"]))
    trained = read_status(encoder).status == "trained"
    return rank(test_queries if trained else [], documents, encoders, retrieval)


def judge_encoder(
    predictions: DataFrame,
    documents: list[CatalogueDocument],
    train: list[Triplet],
    encoder: Path,
    retrieval: RetrievalOptions,
) -> tuple[Document, Document]:
    """Metrics and the verdict; both say ``unjudged`` when there is nothing to judge."""
    from tracetune.evaluation.retrieval_judge import judge

    status = read_status(encoder)
    metrics, gate = judge(
        predictions,
        documents=len(documents),
        trained_positives={row.provenance.ids["positive_id"] for row in train},
        options=retrieval,
        reason=None if status.status == "trained" else status.reason,
    )
    return metrics, gate.model_dump(mode="json")


def draw_retrieval(
    metrics: Document, funnel: Document, encoder: Path, plan: Document
) -> tuple[Figure, Figure, Figure, Figure, Figure]:
    """Loss curves, quality, differences, slices, funnel."""
    from tracetune.evaluation import funnel_figure, retrieval_figures
    from tracetune.files import read_json

    path = encoder / "history.json"
    loss = plan["job"]["trainer"]["loss"] if plan["job"] else "triplet"
    return (
        retrieval_figures.losses(read_json(path) if path.is_file() else [], loss),
        retrieval_figures.quality(metrics),
        retrieval_figures.differences(metrics),
        retrieval_figures.slices(metrics),
        funnel_figure.funnel(funnel_figure.funnel_steps(_shown_funnel(funnel))),
    )


def write_retrieval_report(
    metrics: Document,
    gate: Document,
    losses: Figure,
    quality: Figure,
    differences: Figure,
    slices: Figure,
    funnel_figure: Figure,
    funnel: Document,
    splits: Document,
    snapshot: Document,
    privacy: Document,
    base: Document,
    decision: Document,
    previous: Document,
    preflight: Document,
    plan: Document,
    tenant: str,
    name: str,
) -> tuple[str, str]:
    """The HTML page and the few lines a person reads at the end of a run."""
    from tracetune.evaluation.funnel_figure import funnel_steps
    from tracetune.evaluation.gate import Gate
    from tracetune.evaluation.retrieval_judge import summary_lines
    from tracetune.evaluation.retrieval_report import RetrievalContext, render

    verdict = Gate.model_validate(gate)
    kinds = SplitManifest.model_validate(splits).counts
    counts = {"triplets": kinds.get("triplet", {}), "queries": kinds.get("query", {})}
    notes = [
        f"Decision: {decision['reason']}.",
        f"{_sets_words(funnel)} {_catalogue_words(funnel)}",
        _previous(previous),
    ]
    cost = plan["estimate"]
    if cost:
        notes.append(
            f"Training would take about {cost['seconds']:.0f} s on this machine: "
            f"{cost['steps']} steps, {cost['tokens']:,} tokens."
        )
    job = plan["job"] or {}
    page = render(
        RetrievalContext(
            title=f"embedding: {name}",
            tenant=tenant,
            name=name,
            metrics=metrics,
            gate=verdict,
            figures={
                "quality": quality,
                "differences": differences,
                "slices": slices,
                "losses": losses,
                "funnel": funnel_figure,
            },
            funnel=funnel,
            funnel_steps=funnel_steps(_shown_funnel(funnel)),
            counts=counts,
            preflight=preflight,
            made_with={
                "snapshot": {
                    key: snapshot[key] for key in ("project", "anchor", "window", "content_hash")
                },
                "encoder": {key: value for key, value in base.items() if key != "path"},
                "job": plan["job_hash"],
                "trainer": job.get("trainer"),
                "lora": job.get("lora"),
                "versions": job.get("versions"),
                "seed": job.get("seed"),
                "redacted": privacy,
            },
            notes=notes,
        )
    )
    lines = summary_lines(metrics, verdict, counts)
    return page, "\n".join([*lines, *notes[1:2], *notes[3:]])


def _shown_funnel(funnel: Document) -> Document:
    """The funnel of the set that is drawn: feedback, unless only annotated documents are used."""
    return funnel if "feedback" in funnel["used"]["sets"] else funnel["document_set"]


def _sets_words(funnel: Document) -> str:
    used = funnel["used"]
    text = "Triplets in use: " + ", ".join(
        f"{count:,} of {name}" for name, count in used["by_set"].items()
    )
    if used["contradiction"]:
        text += f" ({used['contradiction']:,} left out, because the sets contradict each other)"
    unused = {
        "feedback": funnel["triplets"]["rows"],
        "documents": funnel["document_set"]["triplets"]["rows"],
    }
    left = [f"{n:,} of {name}" for name, n in unused.items() if name not in used["sets"] and n]
    return f"{text}; not in use: {', '.join(left)}." if left else f"{text}."


def _catalogue_words(funnel: Document) -> str:
    found = funnel["catalogue"]
    return (
        f"Catalogue: {found['documents']:,} documents shown by {found['searches']:,} searches; "
        f"{found['two_contents']:,} changed their text, the newest counts."
    )


def _previous(previous: Document) -> str:
    if previous["path"] is None:
        return f"Previous encoder: none ({previous['reason']})."
    text = f"Previous encoder: version {previous['version']}."
    if previous["saw_test_window"]:
        text += " It was trained on rows of this test window, so its figures flatter it."
    return text


def release_encoder(
    trained: Path, base: Document, splits: Document, gate: Document, work: Path
) -> Path:
    """The encoder with what serving needs: its base and the verdict of the gate.

    It is released whatever the gate says: the verdict travels with it, and the registry reads it.
    """
    from tracetune.files import atomic_folder, write_json

    folder = work / "adapter"
    with atomic_folder(folder) as temporary:
        shutil.copytree(trained, temporary, dirs_exist_ok=True)
        if read_status(trained).status == "trained":
            adapter = (temporary / "adapter_config.json").is_file()
            write_json(temporary / "gate.json", gate)
            write_json(
                temporary / "serving.json",
                {
                    "base": base,
                    "model_type": "embedding",
                    "form": "adapter" if adapter else "encoder",
                    "similarity": "cosine",
                    "trained_until": splits["test_start"],
                },
            )
    return folder


def retrieval_stage(pipeline: str) -> Pipeline:
    """Held-out queries and encoders → ranks, metrics, gate, figures, report, release.

    Args:
        pipeline: Name of the pipeline.
    """
    figures = [f"figure_{figure}" for figure in FIGURES]
    results = ["predictions", "metrics", "gate", "report", "summary"]
    judgement = Pipeline(
        [
            Node(
                rank_documents,
                inputs=[
                    *("test_queries", "documents", "triplets", "queries", "splits", "base"),
                    *("encoder", "previous", "params:retrieval"),
                ],
                outputs="predictions",
                name="rank",
                tags=["judgement", "gpu"],
            ),
            Node(
                judge_encoder,
                inputs=["predictions", "documents", "train", "encoder", "params:retrieval"],
                outputs=["metrics", "gate"],
                name="judge",
                tags="judgement",
            ),
            Node(
                draw_retrieval,
                inputs=["metrics", "funnel", "encoder", "plan"],
                outputs=figures,
                name="draw_figures",
                tags="judgement",
            ),
            Node(
                write_retrieval_report,
                inputs=[
                    *("metrics", "gate"),
                    *figures,
                    *("funnel", "splits", "snapshot", "privacy", "base", "decision"),
                    *("previous", "preflight", "plan", "params:tenant", "params:name"),
                ],
                outputs=["report", "summary"],
                name="write_report",
                tags="judgement",
            ),
        ],
        namespace=f"{pipeline}.judgement",
        inputs={
            **shared(pipeline, "test_queries", "documents", "triplets", "queries", "splits"),
            **shared(pipeline, "base", "previous", "funnel", "snapshot", "privacy", "decision"),
            "encoder": f"{pipeline}.encoder.adapter",
            **{name: f"{pipeline}.encoder.{name}" for name in ("train", "plan", "preflight")},
        },
        outputs=shared(pipeline, *results, *figures),
        parameters={"retrieval", "tenant", "name"},
    )
    released = Pipeline(
        [
            Node(
                release_encoder,
                inputs=["trained", "base", "splits", "gate", "work"],
                outputs="adapter",
                name="release",
                tags="release",
            )
        ],
        namespace=f"{pipeline}.release",
        inputs={
            **shared(pipeline, "base", "splits", "gate"),
            "trained": f"{pipeline}.encoder.adapter",
        },
    )
    return judgement + released
