"""What the report of ``twin`` says beside the verdict: sentences, lines at the end of a run."""

from __future__ import annotations

from typing import Any

from tracetune.evaluation.gate import Gate
from tracetune.evaluation.metrics import smallest_effect
from tracetune.evaluation.names import percent, points, span
from tracetune.pipelines.twin_answers import CANNED_ANSWER
from tracetune.pipelines.twin_verdict import WORDS

Document = dict[str, Any]

_LEVEL = 0.05
_SIDES = ("train", "validation", "test")
_LINES = {"policy": "Policy  ", "agreement": "Words   "}
"""Scores that stand in the lines at the end; the second: words shared with the own answer."""


def notes(
    decision: Document, surgery: Document, metrics: Document, candidates: Document
) -> list[str]:
    """What a reader should know beside the verdict: decision, rewriting, judge, earlier adapter."""
    found = [f"Decision: {decision['reason']}.", *_rewriting(surgery["rewriting"])]
    previous = candidates["previous"]
    if previous["path"] is None:
        found.append(f"Previous adapter: none ({previous['reason']}).")
    else:
        found.append(f"Previous adapter: {previous['pipeline']}, version {previous['version']}.")
    judge = metrics["ab"]["judge"]
    if judge["status"] == "judged":
        found.append(
            f"The A/B judge, {judge['writer']}, answered {judge['outcomes'].get('answered', 0)} of "
            f"{judge['asked']} questions (estimated cost {judge['usd']:.4f} USD). In "
            f"{judge['swayed']} pairs it named the same place in both orders; these are ties."
        )
        found += [f"Questions without a reply: {problem}." for problem in judge["problems"]]
    elif judge["status"] == "none":
        found.append(f"No judge compared answers: {judge['reason']}.")
    elif judge["status"] == "waiting":
        found.append(f"The A/B judge is not done: {judge['reason']}.")
    elif judge["estimate"] is not None:
        found.append(
            f"Dry run: the A/B judge would be asked {judge['estimate']['questions']} questions, "
            f"for about {judge['estimate']['usd']:.4f} USD."
        )
    if metrics["models"]:
        found.append(f"The canned answer is always: “{CANNED_ANSWER}”")
    return found


def _rewriting(report: Document) -> list[str]:
    if "dry_run" in report:
        cost = report["dry_run"]
        return [
            f"Dry run: {cost['requests']} rewrites would be asked of {report['writer']}, for at "
            f"most {cost['most_usd']:.2f} USD. Nothing was asked."
        ]
    wanted, accepted = sum(report["wanted"].values()), sum(report["accepted"].values())
    paid = f", estimated cost {report['usd']:.4f} USD" if report["usd"] else ""
    return [f"{accepted} of {wanted} answers were rewritten (writer: {report['writer']}{paid})."]


def effect(metrics: Document) -> str:
    """What the number of held-out prompts and cases allows to see."""
    n, cases = metrics["groups"], metrics["cases"]
    least = smallest_effect(n, _LEVEL)
    if least is None:
        words = (
            f"{n} held-out conversations are too few for a sign test to reach p < {_LEVEL:g}, "
            "whatever the answers are."
        )
    else:
        words = (
            f"With {n} held-out conversations the A/B comparison can reach p < {_LEVEL:g} only if "
            f"at least {round(least * n)} of them are won and none is lost."
        )
    return (
        f"{words} The suite has {cases['suite']} named cases and {cases['corpus']} of held-out "
        "conversations."
    )


def summary_lines(metrics: Document, scores: Document, gate: Gate, counts: Document) -> list[str]:
    """The lines a run ends with."""
    used = "; ".join(
        f"{kind} " + ", ".join(f"{sides[side]} {side}" for side in _SIDES if side in sides)
        for kind, sides in counts.items()
    )
    lines = [f"Rows     {used or 'none'}"]
    adapter = metrics["adapter"]
    if scores["models"]:
        rates = {name: found["rates"]["all"] for name, found in scores["models"].items()}
        told = ", ".join(
            f"{WORDS[name]} {rates[name]['passed']}/{rates[name]['n']} "
            f"{span(rates[name]['low'], rates[name]['high'], 0)}"
            for name in ("base", adapter)
        )
        failed = len(scores["models"][adapter]["critical_failures"])
        lines.append(f"Cases    {told}; critical cases failed: {failed}")
    if metrics["status"] == "judged":
        gain = metrics["comparisons"]["base"]
        for name, words in _LINES.items():
            means = {model: found[name]["mean"] for model, found in metrics["models"].items()}
            lines.append(
                f"{words} "
                + ", ".join(
                    f"{WORDS[model]} {percent(means[model])}" for model in ("base", adapter)
                )
                + f": {points(gain[name]['mean'])} {span(gain[name]['low'], gain[name]['high'])} "
                f"on {gain[name]['n']} held-out prompts"
            )
        lines.append(_compared(metrics))
    return [*lines, f"Verdict  {gate.verdict}"]


def _compared(metrics: Document) -> str:
    found = metrics["ab"]
    told = []
    for words, one in (
        (found["judge"]["writer"], found["judge"]["figures"]),
        ("heuristic", found["heuristic"]),
    ):
        if one is not None:
            failed = f", {one['failed']} failed" if one["failed"] else ""
            told.append(
                f"{words} {one['wins']} won, {one['losses']} lost, {one['ties']} ties{failed}"
            )
    if not told:
        return f"A/B      not compared: {found['reason']}"
    judge = found["judge"]
    why = f" (judge: {judge['reason']})" if judge["status"] in ("none", "waiting") else ""
    return f"A/B      against the {WORDS[found['against']]}: {'; '.join(told)}{why}"


def funnel_of(surgery: Document) -> list[Document]:
    """From answers read to turns that are taught, as the report shows a funnel."""
    report = surgery["surgery"]
    gone = [
        (
            "not annoying",
            report["rules"].get("quarantined", {"turns": 0})["turns"],
            "answers that annoyed the user: worse answers of pairs, and evaluation cases",
        ),
        (
            "not stalling",
            report["left_out"],
            "answers that stall although nothing was in the way, without an accepted rewrite",
        ),
        (
            "gold",
            report["sft"] - report["gold"],
            "answers that work and ask all the same, refuse, or hold a placeholder",
        ),
    ]
    left = report["turns"]
    steps = [{"step": "answers read", "count": left, "dropped": 0, "reason": ""}]
    for step, dropped, reason in gone:
        left -= dropped
        steps.append({"step": step, "count": left, "dropped": dropped, "reason": reason})
    return steps


def made_with(base: Document, plans: dict[str, Document], metrics: Document) -> Document:
    """Hashes, versions and seeds of the run."""
    jobs = {stage: plan["job"] for stage, plan in plans.items() if plan["job"] is not None}
    first: Document = next(iter(jobs.values()), {})
    return {
        "base": {key: value for key, value in base.items() if key != "path"},
        "jobs": {stage: plans[stage]["job_hash"] for stage in jobs},
        "versions": first.get("versions"),
        "seed": first.get("seed"),
        "A/B judge": metrics["ab"]["judge"]["writer"],
    }
