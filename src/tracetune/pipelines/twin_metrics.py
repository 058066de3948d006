"""Figures of ``twin`` from the table of answers: each with its n and an interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tracetune.conversations.ab_options import TwinEvaluationOptions
from tracetune.conversations.regression import CaseResult, NamedCase, judge
from tracetune.conversations.scores import AbResult
from tracetune.pipelines.twin_answers import PARTS

Document = dict[str, Any]
Rows = list[Document]

MEASURES = ("policy", "format", "content", "heuristic", "agreement", "reference_nats")
"""What is measured on held-out prompts."""

_EXAMPLES = 5

SETS = ("all", "suite", "corpus", "critical", "high", "medium")
"""Of which cases pass rates are given."""


def by_model(rows: Rows, kinds: Iterable[str]) -> dict[str, Rows]:
    """Answers to questions of some kinds by model, in the order of the table."""
    wanted, found = set(kinds), dict[str, Rows]()
    for row in rows:
        answers = found.setdefault(row["model"], [])
        if row["kind"] in wanted:
            answers.append(row)
    return found


def model_figures(rows: Rows, options: TwinEvaluationOptions) -> Document:
    """Figures of one model over its answers to held-out prompts.

    Returns:
        ``n``, ``unanswered`` (prompts that did not fit the model, which are in no score), ``cut``
        (answers that were cut), each of :data:`MEASURES` as mean, interval and n, and ``parts``.
    """
    answered = [row for row in rows if row["answer_text"] is not None]
    parts = [f"{score}_{part}" for score, names in PARTS.items() for part in names]
    return {
        "n": len(rows),
        "unanswered": len(rows) - len(answered),
        "cut": sum(row["finish"] == "length" for row in answered),
        **{name: mean_of(answered, name, options) for name in MEASURES},
        "parts": {name: mean_of(answered, name, options) for name in parts},
    }


def mean_of(rows: Rows, name: str, options: TwinEvaluationOptions) -> Document:
    """Mean of a column with its bootstrap interval; what was not measured is not counted."""
    measured = [row for row in rows if row[name] is not None]
    return interval([row[name] for row in measured], [row["group"] for row in measured], options)


def interval(
    values: Sequence[float], groups: Sequence[str], options: TwinEvaluationOptions
) -> Document:
    """Mean of values with the 95 % interval of a bootstrap over whole groups."""
    from tracetune.evaluation.statistics import paired_bootstrap

    found = paired_bootstrap(values, groups, draws=options.bootstrap, seed=options.seed)
    if found is None:
        return {"n": 0, "mean": None, "low": None, "high": None}
    # Means of equal values differ from them in the last digit, and by the number of rows drawn.
    figures = {name: round(getattr(found, name), 9) for name in ("mean", "low", "high")}
    return {"n": len(values), **figures}


def differences(ours: Rows, theirs: Rows, options: TwinEvaluationOptions) -> Document:
    """What one model scores more than another on the prompts that both were measured on.

    Where one of two answers was cut, their policy is compared without their ends.
    """
    pairs = [_alike(a, b) for a, b in zip(ours, theirs, strict=True)]
    found = {}
    for name in MEASURES:
        both = [(a, b) for a, b in pairs if a[name] is not None and b[name] is not None]
        found[name] = interval(
            [a[name] - b[name] for a, b in both], [a["group"] for a, _ in both], options
        )
        found[name]["groups"] = len({a["group"] for a, _ in both})
    return found


def _alike(ours: Document, theirs: Document) -> tuple[Document, Document]:
    """Two answers with policy scores of the parts that are measured of both."""
    from tracetune.conversations.scores import policy_of

    names = PARTS["policy"]
    common = [n for n in names if None not in (ours[f"policy_{n}"], theirs[f"policy_{n}"])]
    if not common or len(common) == len(names):
        return ours, theirs
    first, second = (
        {**one, "policy": policy_of({n: one[f"policy_{n}"] for n in common}).value}
        for one in (ours, theirs)
    )
    return first, second


def heuristics(ours: Rows, theirs: Rows) -> tuple[list[float | None], list[float | None]]:
    """Scores of the A/B comparison; without their ends where one of two answers was cut."""
    columns = [
        "heuristic_open" if "length" in (a["finish"], b["finish"]) else "heuristic"
        for a, b in zip(ours, theirs, strict=True)
    ]
    first, second = (
        [row[column] for row, column in zip(rows, columns, strict=True)] for rows in (ours, theirs)
    )
    return first, second


def ab_figures(result: AbResult, groups: Sequence[str], options: TwinEvaluationOptions) -> Document:
    """Wins, losses and ties with rates, the exact sign test, and the interval of their difference.

    The sign test is over conversations: prompts of one conversation resemble each other. A
    conversation is won if more of its pairs are won than lost.

    Args:
        result: The comparison.
        groups: Conversation of each prompt.
        options: Draws and seed.
    """
    from tracetune.evaluation.statistics import mcnemar_exact

    pairs = zip(result.outcomes, groups, strict=True)
    known = [(float(one), group) for one, group in pairs if one is not None]
    balance: dict[str, float] = {}
    for one, group in known:
        balance[group] = balance.get(group, 0.0) + one
    won, lost = (sum(sign * one > 0 for one in balance.values()) for sign in (1, -1))
    return {
        **result.model_dump(mode="json", exclude={"outcomes"}),
        # The sign test asks of discordant pairs what McNemar's exact test asks.
        "p": mcnemar_exact(won, lost) if result.n else None,
        "groups": {"n": len(balance), "won": won, "lost": lost},
        "difference": interval([one for one, _ in known], [group for _, group in known], options),
    }


def share(passed: int, n: int) -> Document:
    """A share with its Wilson interval; null where there is nothing."""
    from tracetune.evaluation.statistics import wilson_interval

    low, high = wilson_interval(passed, n) or (None, None)
    return {"n": n, "passed": passed, "rate": passed / n if n else None, "low": low, "high": high}


def suite_figures(
    cases: Sequence[NamedCase], rows: Rows, options: TwinEvaluationOptions
) -> Document:
    """The regression suite for one model.

    Args:
        cases: Named cases and those of the corpus.
        rows: Its answers to them.
        options: When the suite is passed.

    Returns:
        Pass rates of :data:`SETS` with intervals, ``others`` (cases that are not critical), names
        of critical cases that failed, whether the model may go on, and each case.
    """
    answers = {row["row_id"]: row["answer_text"] for row in rows}
    cut = {row["row_id"] for row in rows if row["finish"] == "length"}
    result = judge(cases, answers, options.suite, cut)

    def rate(chosen: list[CaseResult]) -> Document:
        return share(sum(case.passed for case in chosen), len(chosen))

    def of(name: str) -> list[CaseResult]:
        return [
            case
            for case in result.cases
            if name in ("all", case.priority, "corpus" if case.category == "corpus" else "suite")
        ]

    return {
        "rates": {name: rate(of(name)) for name in SETS},
        "others": rate([case for case in result.cases if case.priority != "critical"]),
        "critical_failures": result.critical_failures,
        "deploy": result.deploy,
        "cases": [case.model_dump(mode="json") for case in result.cases],
    }


def examples_of(prompts: Mapping[str, Rows], models: Sequence[str]) -> list[Document]:
    """Some held-out prompts with the answers of some models, spread evenly over all of them."""
    from tracetune.evaluation.judge import spread

    chosen = [prompts[model] for model in models]
    return [
        {
            **{name: chosen[0][place][name] for name in ("row_id", "prompt", "target")},
            "answers": {
                model: rows[place]["answer_text"]
                for model, rows in zip(models, chosen, strict=True)
            },
        }
        for place in spread(len(chosen[0]) if chosen else 0, _EXAMPLES)
    ]


def rewards_of(pairs: Rows, options: TwinEvaluationOptions) -> Document | None:
    """Share of held-out pairs whose better answer has the higher reward; None without pairs."""
    from tracetune.evaluation.metrics import reward_metrics
    from tracetune.evaluation.options import EvaluationOptions

    return reward_metrics(pairs, EvaluationOptions(bootstrap=options.bootstrap, seed=options.seed))
