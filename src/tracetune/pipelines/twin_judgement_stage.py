"""The judgement of ``twin``: cases and held-out prompts answered, compared, judged; release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.conversations.ab_options import TwinEvaluationOptions
from tracetune.conversations.regression import NamedCase
from tracetune.pipelines.answering import asked, why_unasked
from tracetune.pipelines.judgement_stage import collect_adapters
from tracetune.pipelines.namespaces import shared
from tracetune.pipelines.release_stage import release_stage
from tracetune.pipelines.twin_comparison import ask_judge, both_comparisons
from tracetune.records import Example, Preference, Rating
from tracetune.records.ctv3 import EvalCase, SftTurn
from tracetune.splits import SplitManifest, verify

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure
else:
    DataFrame = Figure = Any

Document = dict[str, Any]

FIGURES = ("cases", "scores", "comparison", "losses", "rewards")
STAGES = ("sft", "dpo")

NOT_SHOWN = (
    "All scores but the judge's are rules about words and forms. They see whether an answer stalls "
    "and keeps its form. They do not see whether what it says is true or helps: correctness and "
    "relevance are not measured.",
    "The phrases that mark stalling here are those by which the training rows were cleaned, and "
    "they are English. Stalling in other words or in another language is not seen.",
    "A perfect policy score needs no work: the canned answer has one. It counts only together with "
    "the regression suite and with what the other scores say.",
    "The twelve named cases are few and known to everybody. Their pass rates have wide intervals, "
    "and a model can be made to pass them without being better elsewhere.",
    "An answer that was cut at its longest length has no end to judge: its cases have failed, and "
    "its policy is that of the other parts. With many of them raise max_new_tokens.",
    "Held-out prompts are of the same people as the training rows, and each was answered after the "
    "real turns before it. In use a model reads its own earlier answers, and errors may add up.",
    "Agreement compares words with what was answered in the conversation. A good answer in other "
    "words scores low; a wrong one that shares common words scores above zero.",
    "The judge of the A/B comparison is a model too. Asking in both orders takes away its liking "
    "for a place, not its liking for a style or a length, and it cannot run what it reads.",
    "Worse answers of most held-out pairs were made by rules, so that their form gives them away: "
    "a high reward accuracy does not show that good answers are written.",
    "Only the judged adapter is tested, against the base and in the A/B comparison. The other "
    "columns describe; with many of them some differ by chance.",
)
"""What a reader could wrongly take from the figures."""

CHANGED_HERE = {
    "suite: matching": "phrases match on word boundaries; the original looked for substrings",
    "suite: blank answers": "a blank answer fails; in the original it passed every check",
    "suite: questions": "a question at the end is found with and without its mark, and a quoted "
    "one does not count; the original looked at the last character",
    "suite: empty": "without a case the rate is null; the original divided by zero",
    "a/b: order": "the judge is asked in both orders and a win needs both; the original compared "
    "scores once",
    "a/b: chance": "exact sign test and bootstrap interval; the original gave rates alone",
    "a/b: failures": "a failed comparison is in no rate; published code counted it in the "
    "denominator",
    "answers: sampling": "greedy, so that a run can be repeated; the original drew at temperature "
    "0.3 without a seed",
}
"""What differs from document 000 beside the scores."""


def collect_twin(
    base: Document, previous: Document, together: TogetherOptions, **stages: Any
) -> Document:
    """Who is judged, for a model of one's own way of working.

    Args:
        base: The base model.
        previous: The adapter released before, or none.
        together: Says whether hosted models are asked.
        **stages: ``<stage>_adapter`` and ``<stage>_plan`` of each stage, in order of training.
    """
    asking = (why_unasked(base, together), together.judge_on)
    return collect_adapters(previous, {"compare": "twin"}, None, stages, *asking)


def held_out_cases(
    eval_cases: list[EvalCase], ratings: list[Rating], splits: Document
) -> tuple[list[NamedCase], dict[str, str]]:
    """Evaluation cases of held-out conversations, and the conversation of each."""
    from tracetune.conversations.regression import corpus_cases
    from tracetune.conversations.rows import cases_of

    held_out = SplitManifest.model_validate(splits).select(ratings, "test")
    groups = {row.provenance.ids["record_id"]: row.provenance.group for row in held_out}
    return corpus_cases(cases_of(eval_cases, held_out)), groups


def answer_prompts(
    test: list[Example],
    train: list[Example],
    examples: list[Example],
    preferences: list[Preference],
    ratings: list[Rating],
    sft_records: list[SftTurn],
    eval_cases: list[EvalCase],
    splits: Document,
    base: Document,
    candidates: Document,
    evaluation: TwinEvaluationOptions,
    together: TogetherOptions,
    jobs: RemoteJobs,
) -> tuple[DataFrame, list[Document]]:
    """Answers of base, adapters and cheap baselines to cases and held-out prompts.

    The manifest is checked against all rows before anything is answered. Without an adapter there
    are no answers, and neither if nobody can ask the models, or if an endpoint would be paid for
    named cases alone.

    Returns:
        The table of answers (:data:`tracetune.pipelines.twin_answers.COLUMNS`), and the rewards of
        held-out pairs.
    """
    from tracetune.conversations.suite import suite
    from tracetune.evaluation.generate import BASE
    from tracetune.pipelines.twin_answers import answer_all, frame, pair_rewards, questions_of

    manifest = SplitManifest.model_validate(splits)
    verify(manifest, [*examples, *preferences, *ratings])
    unpaid = not test and together.judge_on == "endpoint"
    if candidates["judged"] is None or why_unasked(base, together) or unpaid:
        return frame([]), []
    cases, groups = held_out_cases(eval_cases, ratings, splits)
    questions = questions_of(suite(), cases, groups, test, sft_records)
    adapters = candidates["adapters"]
    with asked(base, adapters, together, jobs, threads=evaluation.threads) as generator:
        answers = answer_all(generator, (BASE, *adapters), questions, train, evaluation)
        rewards = pair_rewards(
            generator,
            manifest.select(preferences, "test") if candidates["rewards"] else [],
            candidates["rewards"] or {},
            max(1, evaluation.batch_size // 2),
        )
    return answers, rewards


def judge_twin(
    predictions: DataFrame,
    rewards: list[Document],
    ab: Document,
    eval_cases: list[EvalCase],
    ratings: list[Rating],
    splits: Document,
    candidates: Document,
    evaluation: TwinEvaluationOptions,
) -> tuple[Document, Document, Document]:
    """Figures on held-out prompts, the verdict of the gate, and the regression suite by model."""
    from tracetune.conversations.scores import CHANGED
    from tracetune.conversations.suite import suite
    from tracetune.evaluation.metrics import records
    from tracetune.pipelines import twin_metrics
    from tracetune.pipelines.twin_verdict import gate_of

    rows, adapter = records(predictions), candidates["judged"]
    cases = [*suite(), *held_out_cases(eval_cases, ratings, splits)[0]]
    of_cases = twin_metrics.by_model(rows, ["suite", "corpus"])
    prompts = twin_metrics.by_model(rows, ["prompt"])
    scores = {
        "status": "judged" if rows else "unjudged",
        "models": {
            model: twin_metrics.suite_figures(cases, answers, evaluation)
            for model, answers in of_cases.items()
        },
    }
    n = len(prompts[adapter]) if adapter in prompts else 0
    reason = "" if n else candidates["reason"] or "there is no held-out prompt"
    ours = prompts.get(adapter, [])
    metrics = {
        "status": "judged" if n else "unjudged",
        "reason": reason,
        "adapter": adapter,
        "n": n,
        "groups": len({row["group"] for row in ours}),
        "cases": {"suite": len(suite()), "corpus": len(cases) - len(suite())},
        "models": {
            model: twin_metrics.model_figures(answers, evaluation)
            for model, answers in prompts.items()
        },
        "comparisons": {
            model: twin_metrics.differences(ours, answers, evaluation)
            for model, answers in prompts.items()
            if model != adapter
        },
        "ab": both_comparisons(ab, prompts, adapter, evaluation),
        "rewards": twin_metrics.rewards_of(rewards, evaluation),
        "examples": twin_metrics.examples_of(prompts, ["base", adapter] if n else []),
        "changed": {**CHANGED, **CHANGED_HERE},
        "not_shown": list(NOT_SHOWN),
    }
    gate = gate_of(metrics, scores, evaluation)
    return metrics, gate.model_dump(mode="json"), scores


def draw_twin_figures(
    metrics: Document, scores: Document, candidates: Document
) -> tuple[Figure, Figure, Figure, Figure, Figure]:
    """Pass rates, scores, A/B comparison, loss curves, reward curves."""
    from tracetune.evaluation.figures import loss_curves, reward_curves
    from tracetune.pipelines import twin_figures
    from tracetune.pipelines.judgement_stage import history_of

    adapters = candidates["adapters"]
    histories = {name: history_of(Path(adapters[name])) for name in STAGES if name in adapters}
    return (
        twin_figures.pass_rates(scores, metrics),
        twin_figures.mean_scores(metrics),
        twin_figures.comparison(metrics),
        loss_curves(histories),
        reward_curves(histories.get("dpo", [])),
    )


def twin_judgement_stage(pipeline: str) -> Pipeline:
    """Cases, held-out rows and adapters → predictions, A/B, metrics, gate, figures, release.

    Args:
        pipeline: Name of the pipeline.
    """
    of_stages = {
        f"{stage}_{what}": f"{pipeline}.{stage}.{what}"
        for what in ("adapter", "plan")
        for stage in STAGES
    }
    # Not in the namespace of the stage: release reads the candidates too.
    collected = Pipeline(
        [
            Node(
                collect_twin,
                inputs={
                    **{name: name for name in ("base", "previous", *of_stages)},
                    "together": "params:together",
                },
                outputs="candidates",
                name="collect",
                tags="judgement",
            )
        ],
        namespace=pipeline,
        inputs=of_stages,
        parameters={"together"},
    )
    judged = Pipeline(
        [*_answering(), *_judging()],
        namespace=f"{pipeline}.judgement",
        inputs={
            **shared(pipeline, "test", "examples", "preferences", "ratings", "sft_records"),
            **shared(pipeline, "eval_cases", "splits", "base", "candidates"),
            "train": f"{pipeline}.sft.train",
            "llm": "llm",
            "jobs": "jobs",
        },
        outputs=shared(
            pipeline,
            *("predictions", "rewards", "ab", "metrics", "gate", "scores"),
            *(f"figure_{figure}" for figure in FIGURES),
        ),
        parameters={"twin_evaluation", "llm", "seed", "dry_run", "together"},
    )
    return collected + judged + release_stage(pipeline, "twin_evaluation")


def _answering() -> list[Node]:
    return [
        Node(
            answer_prompts,
            inputs=[
                *("test", "train", "examples", "preferences", "ratings", "sft_records"),
                *("eval_cases", "splits", "base", "candidates", "params:twin_evaluation"),
                *("params:together", "jobs"),
            ],
            outputs=["predictions", "rewards"],
            name="predict",
            tags=["judgement", "gpu"],
        ),
        Node(
            ask_judge,
            inputs=[
                *("predictions", "test", "candidates", "llm", "params:llm"),
                *("params:twin_evaluation", "params:seed", "params:dry_run"),
            ],
            outputs="ab",
            name="ask_judge",
            tags=["judgement", "remote"],
        ),
    ]


def _judging() -> list[Node]:
    return [
        Node(
            judge_twin,
            inputs=[
                *("predictions", "rewards", "ab", "eval_cases", "ratings", "splits"),
                *("candidates", "params:twin_evaluation"),
            ],
            outputs=["metrics", "gate", "scores"],
            name="judge",
            tags="judgement",
        ),
        Node(
            draw_twin_figures,
            inputs=["metrics", "scores", "candidates"],
            outputs=[f"figure_{figure}" for figure in FIGURES],
            name="draw_figures",
            tags="judgement",
        ),
    ]
