"""The A/B comparison of ``twin``: the node that asks the judge, and both comparisons in figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracetune.conversations.ab_options import TwinEvaluationOptions
from tracetune.datasets.llm_dataset import LlmAccess
from tracetune.llm.options import LlmOptions
from tracetune.pipelines.prepare_stage import checked_flag
from tracetune.records import Example, Message

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    DataFrame = Any

Document = dict[str, Any]


def ask_judge(
    predictions: DataFrame,
    test: list[Example],
    candidates: Document,
    llm_access: LlmAccess,
    llm: LlmOptions,
    evaluation: TwinEvaluationOptions,
    seed: int,
    dry_run: bool,
) -> Document:
    """Has the answers of the judged adapter compared with those of another model, pair by pair.

    Returns:
        ``status``: ``judged``; ``none`` if nobody can judge; ``waiting`` if the service has not
        done its work; ``unjudged`` if there is nothing to compare. ``reason`` says why, ``against``
        whom. ``report`` is :class:`tracetune.conversations.ab.AbReport`, None unless ``judged``;
        ``estimate`` is of a dry run: how much would be asked, and for how much.
    """
    from tracetune.conversations.ab import Duel, compare_judged
    from tracetune.evaluation.metrics import records
    from tracetune.llm import Unfinished
    from tracetune.pipelines.twin_metrics import by_model

    against = evaluation.ab.against
    found: Document = {"against": against, "writer": "", "report": None, "estimate": None}
    models = by_model(records(predictions), ["prompt"])
    if checked_flag(dry_run) and llm.provider != "offline":
        found["estimate"] = _estimate(test, llm, evaluation)
    if reason := not_compared(candidates, models, against):
        return {**found, "status": "unjudged", "reason": reason}
    if llm.provider == "offline":
        reason = "the offline generator cannot judge answers; llm.provider=anthropic asks a model"
        return {**found, "status": "none", "reason": reason}
    prompts = {row.id: _prompt(row) for row in test}
    duels = [
        Duel(
            row_id=ours["row_id"],
            group=ours["group"],
            prompt=prompts[ours["row_id"]],
            ours=ours["answer_text"],
            theirs=theirs["answer_text"],
        )
        for ours, theirs in zip(models[candidates["judged"]], models[against], strict=True)
    ]
    writer = llm_access.open(llm, seed)
    found["writer"] = writer.label
    try:
        report = compare_judged(duels, writer=writer, options=evaluation.ab)
    except Unfinished as error:
        reason = f"{error.what}; the same command picks it up, and nothing is paid twice"
        return {**found, "status": "waiting", "reason": reason}
    return {**found, "status": "judged", "reason": "", "report": report.model_dump(mode="json")}


def _estimate(test: list[Example], llm: LlmOptions, evaluation: TwinEvaluationOptions) -> Document:
    """Questions about all held-out prompts, and about how much they would cost.

    No answer is there yet: each is taken to be as long as allowed, at four characters per token.
    """
    from tracetune.conversations.ab import Duel, questions
    from tracetune.llm.estimate import most_usd

    longest = "x" * (4 * evaluation.max_new_tokens)
    duels = (
        Duel(row.id, row.provenance.group, _prompt(row), longest, f"{longest}.") for row in test
    )
    asked = [request for duel in duels for request in questions(duel, evaluation.ab)]
    return {"questions": len(asked), "usd": most_usd(asked, llm)}


def _prompt(row: Example) -> list[Message]:
    """What the models were shown of a row: calls of tools before its answer too."""
    return [*row.prompt, *row.completion[:-1]]


def not_compared(candidates: Document, models: dict[str, list[Document]], against: str) -> str:
    """Why there is no A/B comparison; empty if there can be one."""
    judged = candidates["judged"]
    if judged is None or not models:
        none = "no adapter was trained" if judged is None else "there is no held-out prompt"
        return str(candidates["reason"]) or none
    if against == judged:
        return "the judged adapter is the SFT adapter itself"
    if against not in models:
        reason = candidates["previous"]["reason"] if against == "previous" else "it was not trained"
        return f"twin_evaluation.ab.against={against}: there is none ({reason})"
    return "" if models[judged] else "there is no held-out prompt"


def both_comparisons(
    ab: Document,
    prompts: dict[str, list[Document]],
    adapter: str | None,
    evaluation: TwinEvaluationOptions,
) -> Document:
    """The A/B comparison by the heuristic and by the judge, in figures."""
    from tracetune.conversations.scores import AbResult, compare
    from tracetune.pipelines import twin_metrics

    against, report = ab["against"], ab["report"]
    heuristic = judged = None
    if ab["status"] != "unjudged" and adapter is not None:
        ours = prompts[adapter]
        groups = [row["group"] for row in ours]
        theirs = prompts[against]
        result = compare(*twin_metrics.heuristics(ours, theirs))
        heuristic = twin_metrics.ab_figures(result, groups, evaluation)
    if report is not None:
        groups = [verdict["group"] for verdict in report["verdicts"]]
        result = AbResult.model_validate(report["result"])
        judged = twin_metrics.ab_figures(result, groups, evaluation)
    told = ("asked", "swayed", "outcomes", "problems", "usd", "tokens")
    return {
        "against": against,
        "reason": ab["reason"] if ab["status"] == "unjudged" else "",
        "heuristic": heuristic,
        "judge": {
            "status": ab["status"],
            "reason": ab["reason"],
            "writer": ab["writer"],
            "estimate": ab["estimate"],
            "figures": judged,
            **{name: report[name] if report else None for name in told},
        },
    }
