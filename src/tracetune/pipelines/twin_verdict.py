"""The verdict of ``twin``: each condition with its numbers."""

from __future__ import annotations

from typing import Any

from tracetune.conversations.ab_options import TwinEvaluationOptions
from tracetune.evaluation.gate import Check, Gate, unjudged
from tracetune.evaluation.names import p_value, percent, points, span
from tracetune.pipelines.twin_answers import CANNED

Document = dict[str, Any]

WORDS = {
    "base": "base model",
    "previous": "previous adapter",
    "sft": "SFT adapter",
    "dpo": "DPO adapter",
    "nearest": "nearest neighbour",
    CANNED: "canned answer",
}
"""Models and cheap baselines as people read them, in the order in which they are shown."""

CHEAP = ("nearest", CANNED)

FEWEST_GROUPS = 6
"""Fewest conversations from which a gain is told: with fewer no sign test reaches p < 0.05 either,
and a bootstrap of so few draws the same ones again."""

_FAILED = {
    "critical_cases": "critical cases of the regression suite fail",
    "other_cases": "too few of the other cases pass",
    "policy_gain": "its policy score is not higher than that of the base by more than chance",
    "holds_against_cheap": "a cheap baseline has a better policy score",
    "own_answers": "a cheap baseline is as near to the answers of the conversations",
    "ab_not_lost": "it loses the A/B comparison",
}
_UNMEASURED = {
    "policy_gain": "there are too few conversations to tell whether its policy score is higher "
    "than that of the base",
    "ab_not_lost": "no pair of answers could be compared",
}
"""What is said instead where a condition fails because nothing could be measured."""


def gate_of(metrics: Document, scores: Document, options: TwinEvaluationOptions) -> Gate:
    """All conditions must hold; without a held-out prompt, or while a judge works, none is asked.

    Args:
        metrics: Figures on held-out prompts, with the A/B comparison.
        scores: The regression suite by model.
        options: Margin and shares.
    """
    adapter = metrics["adapter"]
    if metrics["status"] != "judged":
        return unjudged(metrics["reason"], adapter)
    if metrics["ab"]["judge"]["status"] == "waiting":
        return unjudged(f"the A/B judge is not done: {metrics['ab']['judge']['reason']}", adapter)
    suite = scores["models"][adapter]
    checks = [
        _critical(suite),
        _others(suite, options),
        _policy_gain(metrics),
        _against_cheap(metrics, options),
        _own_answers(metrics),
    ]
    without_rival = metrics["ab"]["reason"]
    if not without_rival:
        checks.append(_ab(metrics))
    failed = [check for check in checks if not check.passed]
    verdict = _verdict(WORDS[adapter], failed, without_rival)
    return Gate(
        status="judged", promote=not failed, adapter=adapter, verdict=verdict, checks=checks
    )


def _verdict(words: str, failed: list[Check], without_rival: str) -> str:
    """The conditions in one sentence, and why there was no A/B comparison if there was none."""
    told = f" It was not compared: {without_rival}." if without_rival else ""
    if failed:
        why = [
            _UNMEASURED[check.name]
            if check.value is None and check.name in _UNMEASURED
            else _FAILED[check.name]
            for check in failed
        ]
        return f"Do not promote the {words}: {'; '.join(why)}.{told}"
    ends = [
        "passes the regression suite",
        "is more direct than the base",
        "is nearer to the answers of the conversations than a cheap baseline",
    ]
    if not without_rival:
        ends.append("does not lose the A/B comparison")
    return f"Promote: the {words} {', '.join(ends[:-1])}, and {ends[-1]}.{told}"


def _critical(suite: Document) -> Check:
    failed, n = suite["critical_failures"], suite["rates"]["critical"]["n"]
    names = f": {', '.join(name.replace('_', ' ') for name in failed)}" if failed else ""
    return Check(
        name="critical_cases",
        value=float(len(failed)),
        limit=0.0,
        passed=not failed,
        words=f"{len(failed)} of {n} critical cases fail{names}; none may",
    )


def _others(suite: Document, options: TwinEvaluationOptions) -> Check:
    others, least = suite["others"], options.suite.others_from
    return Check(
        name="other_cases",
        value=others["rate"],
        limit=least,
        passed=others["rate"] is not None and others["rate"] >= least,
        words=f"{others['passed']} of {others['n']} other cases pass: {percent(others['rate'])} "
        f"{span(others['low'], others['high'], 0)}, at least {percent(least, 0)} must",
    )


def _policy_gain(metrics: Document) -> Check:
    models, gain = metrics["models"], metrics["comparisons"]["base"]["policy"]
    if gain["groups"] < FEWEST_GROUPS:
        return Check(
            name="policy_gain",
            value=None,
            limit=0.0,
            passed=False,
            words=f"too few conversations: both models answered {gain['n']} held-out prompts of "
            f"{gain['groups']}, at least {FEWEST_GROUPS} are needed to tell a gain",
        )
    return Check(
        name="policy_gain",
        value=gain["low"],
        limit=0.0,
        passed=gain["low"] is not None and gain["low"] > 0,
        words=f"policy score {percent(models[metrics['adapter']]['policy']['mean'])} against "
        f"{percent(models['base']['policy']['mean'])} of the base on {gain['n']} held-out prompts: "
        f"{points(gain['mean'])} {span(gain['low'], gain['high'])}; the interval (paired bootstrap "
        "over conversations) must lie above 0",
    )


def _against_cheap(metrics: Document, options: TwinEvaluationOptions) -> Check:
    cheap, lead = _nearest_rival(metrics, "policy")
    margin = options.gate.margin
    return Check(
        name="holds_against_cheap",
        value=lead["mean"],
        limit=-margin,
        # Means of rounded scores: a difference of exactly the margin must not fail by rounding.
        passed=lead["mean"] is not None and lead["mean"] >= -margin - 1e-9,
        words=f"policy score against the best cheap baseline, {WORDS[cheap]}: "
        f"{points(lead['mean'])} {span(lead['low'], lead['high'])} on {lead['n']} prompts; it may "
        f"be behind by {margin * 100:g} points",
    )


def _own_answers(metrics: Document) -> Check:
    cheap, lead = _nearest_rival(metrics, "agreement")
    ours = metrics["models"][metrics["adapter"]]["agreement"]["mean"]
    return Check(
        name="own_answers",
        value=lead["mean"],
        limit=0.0,
        passed=lead["mean"] is not None and lead["mean"] > 0,
        words=f"words shared with the answers of the conversations (F1): {percent(ours)}, against "
        f"the best cheap baseline, {WORDS[cheap]}, {points(lead['mean'])} "
        f"{span(lead['low'], lead['high'])}; must be above 0. The policy score alone shows no "
        "work: a canned answer has a perfect one",
    )


def _nearest_rival(metrics: Document, measure: str) -> tuple[str, Document]:
    """The cheap baseline over which the adapter leads least, and its lead, on the same prompts."""
    leads = {
        name: metrics["comparisons"][name][measure]
        for name in CHEAP
        if name in metrics["comparisons"]
    }
    known = {name: lead["mean"] for name, lead in leads.items() if lead["mean"] is not None}
    rival = min(known or leads, key=lambda name: known.get(name, 0.0))
    return rival, leads[rival]


def _ab(metrics: Document) -> Check:
    """By the judge if it compared anything, else by the heuristic."""
    found, against = metrics["ab"], metrics["ab"]["against"]
    judge, by = found["judge"]["writer"], found["judge"]["figures"]
    if by is None or not by["n"]:
        judge, by = "the heuristic of document 000", found["heuristic"]
    if by is None or not by["n"]:
        return Check(
            name="ab_not_lost",
            value=None,
            limit=0.0,
            passed=False,
            words=f"no pair of answers could be compared with the {WORDS[against]}: "
            f"{found['heuristic']['failed']} failed",
        )
    difference = by["difference"]
    return Check(
        name="ab_not_lost",
        value=difference["mean"],
        limit=0.0,
        passed=by["wins"] >= by["losses"],
        words=f"against the {WORDS[against]}, judged by {judge}: {by['wins']} won, "
        f"{by['losses']} lost, {by['ties']} ties of {by['n']} ({by['failed']} more failed); "
        f"sign test over {by['groups']['n']} conversations {p_value(by['p'])}, "
        f"difference {points(difference['mean'])} {span(difference['low'], difference['high'])}; "
        "it must not lose more than it wins",
    )
