"""What the report of ``cli`` says beside the verdict: parts of answers, targets, the file."""

from __future__ import annotations

from typing import Any

from tracetune.cli_schema.screen import REASONS
from tracetune.evaluation.names import COLOURS, label, p_value, percent, points, span
from tracetune.evaluation.report import number

Document = dict[str, Any]

PARTS = {
    "exact": "Exact, without confidence",
    "type": "Command or clarification",
    "command": "Command",
    "structural": "Command and subcommand",
    "args_f1": "Arguments, micro F1",
    "flags_f1": "Flags, micro F1",
    "json_valid": "Valid JSON",
    "schema_valid": "Passes the strict check",
}
TARGETS = {
    "exact": "> 90 %",
    "command": "> 98 %",
    "structural": "> 95 %",
    "args_f1": "> 93 %",
    "json_valid": "> 99 %",
}
"""Targets of source document 002; nobody has published what was reached (domain reference B7)."""
LATENCY_TARGETS = {"p50_ms": "< 50", "p99_ms": "< 150"}


def notes(
    generation: Document, pairs: Document, decision: Document, exported: Document
) -> list[str]:
    """What a reader should know beside the verdict: examples, pairs, decision, file."""
    if "dry_run" in generation:
        cost = generation["dry_run"]
        return [
            f"Dry run: {cost['requests']} requests to {generation['writer']} in the first round, "
            f"at most {cost['most_usd']:.2f} USD for them. Nothing was asked."
        ]
    found = generation["diversity"]
    paid = f", estimated cost {generation['usd']:.4f} USD" if generation["usd"] else ""
    lines = [
        f"Decision: {decision['reason']}.",
        f"{generation['examples']} of {generation['wanted']} examples were written by the "
        f"{generation['writer']} in {generation['rounds']} rounds{paid}. Different requests "
        f"{percent(found['distinct'])}, self-BLEU {found['self_bleu']:.2f}, requests that name the "
        f"subcommand literally {percent(found['literal'])}, subcommands covered "
        f"{percent(found['coverage'])}.",
    ]
    if generation["short"]:
        short = sum(generation["short"].values())
        lines.append(f"{len(generation['short'])} cells are short by {short} examples in all.")
    made = ", ".join(f"{count} {reason}" for reason, count in pairs["by_reason"].items())
    lines.append(
        f"The SFT model answered {pairs['right']} of {pairs['asked']} training requests rightly; "
        f"{pairs['pairs']} pairs came of it ({made or 'none'}). {pairs['cut']} answers were cut "
        f"and make no pair. DPO is watched by {pairs['validation']['pairs']} pairs of validation "
        "requests."
    )
    if exported["status"] != "trained":
        lines.append(f"No file was exported: {exported['reason']}.")
    return lines


def earlier(previous: Document) -> str:
    """Which adapter of an earlier run is judged too, or why none."""
    if previous["path"] is None:
        return f"Previous adapter: none ({previous['reason']})."
    return f"Previous adapter: {previous['pipeline']}, version {previous['version']}."


def tables(scores: Document, from_file: Document) -> list[Document]:
    """Parts of the answers by model with the targets, and by kind of request."""
    if scores["status"] != "judged":
        return []
    models = {label(name): scores["models"][name] for name in COLOURS if name in scores["models"]}
    parts = {words: found["all"] for words, found in models.items()}
    by_target = {words: found["by_target"] for words, found in models.items()}
    by_kind = {
        words: {**found["by_type"], **_contexts(found["by_context"])}
        for words, found in models.items()
    }
    perplexities = [found["perplexity"] for found in models.values()]
    cut = [found["cut"] for found in models.values()]
    if from_file["status"] == "judged":
        for kind, words in (("free", "file, free"), ("constrained", "file, with grammar")):
            parts[words] = from_file[kind]["all"]
            by_target[words] = from_file[kind]["by_target"]
            by_kind[words] = {
                **from_file[kind]["by_type"],
                **_contexts(from_file[kind]["by_context"]),
            }
        perplexities += [from_file["likelihood"]["file"], None]
        cut += [from_file[kind]["cut"] for kind in ("free", "constrained")]
    rows = [
        [
            f"{words} (target {TARGETS[key]})" if key in TARGETS else words,
            *(percent(found[key]) for found in parts.values()),
        ]
        for key, words in PARTS.items()
    ]
    rows.insert(1, ["Perplexity of the right answer", *map(number, perplexities)])
    rows.append(["Cut at the end of their room", *map(percent, cut)])
    n = next(iter(parts.values()))["n"]
    found = [
        {
            "id": "parts",
            "title": "Parts of the answers",
            "caption": f"{n} held-out requests. Targets are those of source document 002; no "
            "figure that was reached is published. With a grammar JSON and schema are valid by "
            "construction, unless an answer is cut. Perplexity: exp of the mean negative "
            "log-probability per token, every request counting the same; 1 is certainty.",
            "header": ["", *parts],
            "rows": rows,
        },
        _by("kinds", "By kind of request", by_kind),
        _by("subcommands", "By subcommand", by_target),
    ]
    return [*found, *_file_tables(from_file)]


def _file_tables(from_file: Document) -> list[Document]:
    """What making a file of the adapter changed, and how fast it answers."""
    if from_file["status"] != "judged":
        return []
    adapter, likely = label(from_file["adapter"]), from_file["likelihood"]
    kinds = {"free": "free", "constrained": "with grammar"}
    against = {words: from_file[kind]["against"] for kind, words in kinds.items()}
    return [
        {
            "id": "file",
            "title": f"The file against the {adapter}",
            "caption": f"Exact match on the same {from_file['n']} requests; in brackets the 95 % "
            "interval of a bootstrap over clusters, p of the exact McNemar test. Perplexity of "
            f"{likely['n']} right answers: {number(likely['file'])} in the file, "
            f"{number(likely['adapter'])} in the adapter.",
            "header": ["The file", "Won", "Lost", "Difference", "p"],
            "rows": [
                [
                    words,
                    str(found["wins"]),
                    str(found["losses"]),
                    f"{points(found['difference'])} "
                    f"{span(found['difference_low'], found['difference_high'])}",
                    p_value(found["p"]),
                ]
                for words, found in against.items()
            ],
        },
        {
            "id": "latency",
            "title": "Latency of the file",
            "caption": "Milliseconds per answer, one request at a time, model loaded.",
            "header": ["", *kinds.values()],
            "rows": [
                [
                    f"{words} (target {LATENCY_TARGETS[key]} ms)",
                    *(f"{from_file[kind][key]:.1f}" for kind in kinds),
                ]
                for key, words in (
                    ("p50_ms", "Half of the answers"),
                    ("p99_ms", "99 of 100 answers"),
                )
            ],
        },
    ]


def _contexts(found: Document) -> Document:
    words = {"yes": "with context", "no": "without context"}
    return {words[key]: part for key, part in found.items()}


def _by(name: str, title: str, found: dict[str, Document]) -> Document:
    keys = sorted({key for parts in found.values() for key in parts})
    first = next(iter(found.values()))
    return {
        "id": name,
        "title": title,
        "caption": "Exact match; how many requests there are stands beside the name. Fewer than 10 "
        "say next to nothing.",
        "header": ["", *found],
        "rows": [
            [
                f"{key} ({first[key]['n']})",
                *(percent(parts[key]["exact"]) for parts in found.values()),
            ]
            for key in keys
        ],
    }


def funnel_of(generation: Document) -> list[Document]:
    """From what was written to what was kept, as the report shows a funnel."""
    if "dry_run" in generation:
        return []
    left = generation["written"]
    steps = [{"step": "written", "count": left, "dropped": 0, "reason": ""}]
    for reason, count in generation["rejected"].items():
        if count:
            left -= count
            words = {"step": reason.replace("_", " "), "reason": REASONS[reason]}
            steps.append({**words, "count": left, "dropped": count})
    return steps


def made_with(
    base: Document, plans: dict[str, Document], generation: Document, exported: Document
) -> Document:
    """Hashes, versions and seeds of the run."""
    jobs = {stage: plan["job"] for stage, plan in plans.items() if plan["job"] is not None}
    first: Document = next(iter(jobs.values()), {})
    return {
        "base": {key: value for key, value in base.items() if key != "path"},
        "writer": generation["writer"],
        "jobs": {stage: plans[stage]["job_hash"] for stage in jobs},
        "versions": first.get("versions"),
        "seed": first.get("seed"),
        "files": exported.get("files"),
    }


def file_lines(from_file: Document, exported: Document) -> list[str]:
    """The lines about the exported file at the end of a run."""
    if from_file["status"] != "judged":
        return [f"File     not judged: {from_file['reason']}"]
    free, constrained = from_file["free"], from_file["constrained"]
    lost, likely = free["against"], from_file["likelihood"]
    return [
        f"File     exact {percent(free['all']['exact'])} free, "
        f"{percent(constrained['all']['exact'])} with grammar; schema valid "
        f"{percent(free['all']['schema_valid'])} and {percent(constrained['all']['schema_valid'])}",
        f"         free against the {label(from_file['adapter'])}: {points(lost['difference'])} "
        f"({lost['wins']} won, {lost['losses']} lost, {p_value(lost['p'])}); perplexity "
        f"{number(likely['file'])} against {number(likely['adapter'])}",
        f"         {constrained['p50_ms']:.0f} ms per answer (p50), {constrained['p99_ms']:.0f} ms "
        "(p99), with grammar",
    ]
