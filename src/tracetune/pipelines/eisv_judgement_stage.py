"""The judgement of ``eisv``: answers to held-out windows, the bar, both gates, figures, release."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.eisv.eisv_options import RELEASED, EisvOptions
from tracetune.eisv.judge import Answered
from tracetune.eisv.prompt import VARIANTS
from tracetune.pipelines.answering import asked, why_unasked
from tracetune.pipelines.candidates import trained_adapters
from tracetune.pipelines.eisv_data_stage import of_variant
from tracetune.pipelines.eisv_student_stage import FILES
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.release_stage import release_stage
from tracetune.records import EisvTrajectory, Example
from tracetune.runs import read_status, write_skipped
from tracetune.splits import SplitManifest, verify

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from tracetune.evaluation.asked import Asked
else:
    Figure = Any

Document = dict[str, Any]

FIGURES = ("shapes", "confusion", "coherence", "tokens", "losses")

NOT_SHOWN = (
    "Gate 1 does not show that a trajectory was read: its prompt names the shape, and a table of "
    "nine lines passes it. It also depends on the temperature, so all figures name theirs.",
    "Most rare shapes were generated. Some of them are told apart by flat dimensions, by their "
    "level and by the duration of the window; real ones may be harder.",
    "Labels are drawn by rules, so no model can be right about them: pattern accuracy has a "
    "ceiling, and answers as varied as the labels have a coherence of about a half.",
    "The intervals draw measured windows in pairs of neighbours. Two pairs beside each other still "
    "share states, so the intervals are somewhat too narrow. They say how far another draw of "
    "windows could move a figure, not how other recordings would do.",
    "Size and latency of the students are of the machine of this run.",
)
"""What a reader could wrongly take from the figures."""


def collect_teachers(base: Document, together: TogetherOptions, **stages: Any) -> Document:
    """The teachers that were trained; the one that reads everything is judged and released.

    While one of them runs elsewhere, all wait. ``reason`` says why some were not trained, even if
    the one that is judged was.

    Args:
        base: The base model.
        together: Says whether hosted models are asked.
        **stages: ``<variant>_adapter`` of each variant.
    """
    from tracetune.eisv.prompt import SYSTEM_PROMPT

    found = trained_adapters({variant: stages[f"{variant}_adapter"] for variant in VARIANTS})
    judged = RELEASED if RELEASED in found.adapters else None
    unasked = why_unasked(base, together) if judged else ""
    return {
        "judged": judged,
        "status": "trained" if judged else found.missing,
        "reason": "; ".join(filter(None, (unasked, found.reason))),
        "unasked": unasked,
        "asked_at": together.judge_on,
        "adapters": found.adapters if judged else {},
        "output": {"compare": "eisv"},
        "instruction": SYSTEM_PROMPT,
    }


def answer_windows(
    test: list[Example],
    trajectories: list[EisvTrajectory],
    examples: list[Example],
    splits: Document,
    base: Document,
    candidates: Document,
    students: Path,
    eisv: EisvOptions,
    together: TogetherOptions,
    jobs: RemoteJobs,
) -> list[Answered]:
    """Answers of baselines, base, teachers and students to the held-out windows.

    The manifest is checked against all windows and rows before anything is answered.
    """
    from tracetune.eisv.judge import baseline_answers

    verify(SplitManifest.model_validate(splits), [*trajectories, *examples])
    found = baseline_answers(of_variant(test, RELEASED), seed=eisv.answers.seed)
    if candidates["adapters"] and test and not candidates["unasked"]:
        adapters = candidates["adapters"]
        with asked(base, adapters, together, jobs) as generator:
            found += _of_models(test, generator, list(adapters), eisv)
        found += _of_students(test, trajectories, students, eisv)
    return found


def _of_models(
    test: list[Example], generator: Asked, adapters: list[str], eisv: EisvOptions
) -> list[Answered]:
    from tracetune.eisv.judge import BASE, TEACHER, answered, drawn_at
    from tracetune.evaluation.sampling import sampled_answers

    options = eisv.answers
    rows = {variant: of_variant(test, variant) for variant in adapters}
    asked_for = {
        BASE: drawn_at(options.base, options.base),
        TEACHER: drawn_at(options.at_1, options.at_03),
    }
    given = {
        # The base in all variants first: an endpoint has one model at a time.
        (model, variant): sampled_answers(
            generator,
            variant if model == TEACHER else "base",
            [row.prompt for row in rows[variant]],
            temperatures,
            seed=options.seed,
            max_new_tokens=options.max_new_tokens,
            batch_size=options.batch_size,
        )
        for model, temperatures in asked_for.items()
        for variant in adapters
    }
    found = []
    for variant in adapters:
        for model, temperatures in asked_for.items():
            answers = given[model, variant]
            found += answered(
                rows[variant],
                [[answer.text for answer in each] for each in answers],
                temperatures,
                model=model,
                variant=variant,
                tokens=[[answer.tokens for answer in each] for each in answers],
                finishes=[[answer.finish for answer in each] for each in answers],
            )
    return found


def _of_students(
    test: list[Example], trajectories: list[EisvTrajectory], folder: Path, eisv: EisvOptions
) -> list[Answered]:
    from tracetune.eisv.judge import answered, drawn_at
    from tracetune.eisv.prompt import summarize
    from tracetune.eisv.student import load_student
    from tracetune.eisv.windows import window_of
    from tracetune.files import sha256_json

    if read_status(folder).status != "trained":
        return []
    windows = {row.id: row for row in trajectories}
    temperatures = drawn_at(eisv.answers.at_1, eisv.answers.at_03)
    found = []
    for name, file in FILES.items():
        student = load_student(folder / file)
        variant = RELEASED if student.with_shape else VARIANTS[-1]
        rows = of_variant(test, variant)
        texts = []
        for row in rows:
            window = windows[row.provenance.ids["trajectory"]]
            numbers = summarize(window_of(window)).numbers.tolist()
            shape = window.shape if student.with_shape else None
            seeds = [
                int(sha256_json([eisv.answers.seed, window.id, i])[:12], 16)
                for i in range(len(temperatures))
            ]
            texts.append(
                [
                    student.answer(numbers, shape, temperature=temperature, seed=seed).text
                    for temperature, seed in zip(temperatures, seeds, strict=True)
                ]
            )
        found += answered(rows, texts, temperatures, model=name, variant=variant)
    return found


def judge_teachers(
    predictions: list[Answered],
    trajectories: list[EisvTrajectory],
    splits: Document,
    candidates: Document,
    eisv: EisvOptions,
    work: Path,
) -> tuple[Document, Document, Path]:
    """Scores of everybody, both gates, and the documents that ``kedro eisv gate1`` reads.

    Returns:
        Metrics, the verdict on the released teacher, and the folder of the documents (without a
        held-out window one that says so in ``status.json``).
    """
    from tracetune.eisv.judge import classify_windows, judge, published_figures
    from tracetune.files import atomic_folder, write_json
    from tracetune.pipelines.eisv_verdict import gate_of
    from tracetune.pipelines.judgement_notes import asked_lines

    manifest = SplitManifest.model_validate(splits)
    test = manifest.select(trajectories, "test")
    seed = eisv.answers.seed
    bar = classify_windows(manifest.select(trajectories, "train"), test, seed=seed)
    found = judge(predictions, bar, test, seed=seed)
    gate = gate_of(found, candidates)
    shutil.rmtree(work / "gate1", ignore_errors=True)
    if not found.scores:  # a folder with a status, because nobody answered
        write_skipped(work / "gate1", "there is no held-out window", "unjudged")
    else:
        with atomic_folder(work / "gate1") as folder:
            for name, results in found.results().items():
                write_json(folder / f"{name}.json", results.model_dump(mode="json"))
    metrics = {
        "status": gate.status,
        "reason": candidates["reason"],
        "n": len(test),
        "published": published_figures(manifest.seed),
        "not_shown": [*asked_lines(candidates), *NOT_SHOWN],
        **found.model_dump(mode="json"),
    }
    return metrics, gate.model_dump(mode="json"), work / "gate1"


def draw_eisv_figures(
    metrics: Document,
    predictions: list[Answered],
    trajectories: list[EisvTrajectory],
    candidates: Document,
) -> tuple[Figure, Figure, Figure, Figure, Figure]:
    """Example trajectories, confusion, coherence by shape, token usage by shape, loss curves."""
    from tracetune.evaluation.figures import loss_curves
    from tracetune.pipelines import eisv_figures
    from tracetune.pipelines.judgement_stage import history_of

    histories = {
        eisv_figures.WORDS[name]: history_of(Path(path))
        for name, path in candidates["adapters"].items()
    }
    losses = loss_curves(histories)
    losses.update_traces(line_color=eisv_figures.TEACHER_COLOUR)
    return (
        eisv_figures.example_shapes(trajectories),
        eisv_figures.confusion(metrics),
        eisv_figures.coherence_by_shape(metrics),
        eisv_figures.token_usage(predictions),
        losses,
    )


def eisv_judgement_stage(pipeline: str) -> Pipeline:
    """Held-out windows, teachers and students → predictions, metrics, gates, figures, release.

    Args:
        pipeline: Name of the pipeline.
    """
    adapters = {f"{variant}_adapter": f"{pipeline}.{variant}.adapter" for variant in VARIANTS}
    # Not in the namespace of the stage: release reads the candidates too.
    collected = Pipeline(
        [
            Node(
                collect_teachers,
                inputs={
                    **{name: name for name in ("base", *adapters)},
                    "together": "params:together",
                },
                outputs="candidates",
                name="collect",
                tags="judgement",
            )
        ],
        namespace=pipeline,
        inputs=adapters,
        parameters={"together"},
    )
    judged = Pipeline(
        [
            Node(
                answer_windows,
                inputs=[
                    *("test", "trajectories", "examples", "splits", "base", "candidates"),
                    *("students", "params:eisv", "params:together", "jobs"),
                ],
                outputs="predictions",
                name="predict",
                tags=["judgement", "gpu"],
            ),
            Node(
                judge_teachers,
                inputs=[
                    *("predictions", "trajectories", "splits", "candidates"),
                    *("params:eisv", "work"),
                ],
                outputs=["metrics", "gate", "gate1"],
                name="judge",
                tags="judgement",
            ),
            Node(
                draw_eisv_figures,
                inputs=["metrics", "predictions", "trajectories", "candidates"],
                outputs=[f"figure_{figure}" for figure in FIGURES],
                name="draw_figures",
                tags="judgement",
            ),
        ],
        namespace=f"{pipeline}.judgement",
        inputs={
            **shared(pipeline, "test", "trajectories", "examples", "splits", "base", "candidates"),
            "students": f"{pipeline}.student.model",
            "jobs": "jobs",
        },
        outputs=shared(
            pipeline,
            *("predictions", "metrics", "gate", "gate1"),
            *(f"figure_{figure}" for figure in FIGURES),
        ),
        parameters={"eisv", "together"},
    )
    return collected + judged + release_stage(pipeline, "eisv.answers")
