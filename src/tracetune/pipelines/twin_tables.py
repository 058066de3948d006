"""Tables of the report of ``twin``: cases, scores, A/B comparison, surgery, departures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracetune.evaluation.names import p_value, percent, points, span
from tracetune.evaluation.report import cut, number
from tracetune.pipelines.twin_figures import SHOWN_SETS
from tracetune.pipelines.twin_verdict import WORDS

Document = dict[str, Any]

_SCORES = {
    "policy": "Policy",
    "format": "Format",
    "content": "Content",
    "agreement": "Own words (F1)",
    "heuristic": "Heuristic of A/B",
    "reference_nats": "Own answer, nats",
}
_PARTS = {
    "policy_no_permission": "policy: no permission (.4)",
    "policy_no_question_end": "policy: no question at the end (.3)",
    "policy_no_options": "policy: no options (.2)",
    "policy_no_stalling": "policy: no stalling (.1)",
    "format_bullets": "format: no bullets",
    "format_numbered": "format: numbered",
    "format_json": "format: JSON",
    "format_no_omit": "format: nothing left out",
    "content_completeness": "content: completeness (.3)",
    "content_correctness": "content: correctness (.3)",
    "content_code": "content: code (.2)",
    "content_relevance": "content: relevance (.2)",
}
RULES = {
    "permission": "the answer asks for permission",
    "options": "the answer offers a choice",
    "preamble": "the answer announces or asks back before it begins",
    "refusal": "the answer refuses",
    "ends_with_question": "the answer ends with a question",
    "exec": "the answer holds work: code, a diff, JSON, steps, or the form that was asked for",
    "missing_input": "the request is about something that is not there",
    "vague_target": "the request does not say what it is about",
    "options_asked": "the request asks for options, so that offering them is right",
    "blocked": "the request cannot be answered without more",
    "verdict_justified": "stalling, if any, was right",
    "verdict_neutral": "neither right nor wrong",
    "verdict_unjustified": "it stalls although nothing was in the way",
    "rewritten": "a better text was accepted; that is taught",
    "left_out": "no better text was accepted; it is in no training row",
    "quarantined": "it annoyed the user; it is a worse answer and an evaluation case, never taught",
    "not_gold": "it works and asks all the same, refuses, or holds a placeholder; not trained on",
    "pair_confirmation_reflex": "pair: the worse answer asks for permission",
    "pair_option_spam": "pair: the worse answer offers a choice",
    "pair_omission": "pair: the worse answer leaves something out",
    "pair_format_drift": "pair: the worse answer has another form than was asked for",
    "pair_friction_repair": "pair: the worse answer is the one that annoyed the user",
}
"""Rules of the surgery, in the order in which they are shown, and what each says."""
_EXAMPLE = 240
"""Longer texts are cut in the examples."""
_SHARES = frozenset({"policy", "format", "content", "agreement"})
"""What lies between 0 and 1 and is shown in per cent."""


def tables(metrics: Document, scores: Document, ab: Document, surgery: Document) -> list[Document]:
    """All tables of the report, in their order; those without a row are left out."""
    found = [
        *_suite(scores, metrics),
        *_means(metrics),
        _comparison(metrics),
        _pairs(ab),
        _examples(metrics),
        *_surgery(surgery["surgery"]),
        _changed(metrics),
    ]
    return [table for table in found if table["rows"]]


def _shown(models: Mapping[str, Any]) -> dict[str, Any]:
    """Models under their names for people, in the order of the report."""
    return {words: models[name] for name, words in WORDS.items() if name in models}


def _suite(scores: Document, metrics: Document) -> list[Document]:
    models = _shown(scores["models"])
    if not models:
        return []
    first = next(iter(models.values()))
    rates = {
        "id": "suite",
        "title": "Regression suite",
        "caption": "Cases passed, with the 95 % Wilson interval. Every critical case must pass, "
        "and of the others a share. A case without an answer or with a cut one has failed.",
        "header": ["", "n", *models],
        "rows": [
            [
                words,
                str(first["rates"][name]["n"]),
                *(_rate(found["rates"][name]) for found in models.values()),
            ]
            for name, words in SHOWN_SETS.items()
        ]
        + [["may go on", "", *(number(found["deploy"]) for found in models.values())]],
    }
    cases = {
        "id": "cases",
        "title": "Case by case",
        "caption": "✓ passed, ✗ failed.",
        "header": ["Case", "Priority", *models],
        "rows": [
            [
                _case_name(case),
                case["priority"],
                *("✓" if found["cases"][place]["passed"] else "✗" for found in models.values()),
            ]
            for place, case in enumerate(first["cases"])
        ],
    }
    judged = scores["models"][metrics["adapter"]]
    failures = {
        "id": "failures",
        "title": f"What was found in answers of the {WORDS[metrics['adapter']]}",
        "caption": "The cases that failed, and why.",
        "header": ["Case", "Found"],
        "rows": [
            [_case_name(case), "; ".join(case["failures"])]
            for case in judged["cases"]
            if not case["passed"]
        ],
        "prose": True,
    }
    return [rates, cases, failures]


def _case_name(case: Document) -> str:
    """Named cases by their name, those of the corpus by the start of their id."""
    if case["category"] == "corpus":
        return f"corpus {case['name'][:8]}"
    return str(case["name"]).replace("_", " ")


def _rate(found: Document) -> str:
    if found["rate"] is None:
        return "–"
    return f"{percent(found['rate'], 0)} {span(found['low'], found['high'], 0)}"


def _means(metrics: Document) -> list[Document]:
    if not metrics["n"]:
        return []
    models = _shown(metrics["models"])
    rows = [
        [words, *_cells([found[name] for found in models.values()], name)]
        for name, words in _SCORES.items()
    ]
    for key, words in (("cut", "Answers that were cut"), ("unanswered", "Prompts not answered")):
        rows.append([words, str(metrics["n"]), *(str(found[key]) for found in models.values())])
    means = {
        "id": "scores",
        "title": "Scores on held-out prompts",
        "caption": f"Means over {metrics['n']} held-out prompts of {metrics['groups']} "
        "conversations, with the 95 % interval of a bootstrap over conversations. n: prompts to "
        "which a score applies; in a cell where a model has fewer. Own words: words shared with "
        "what was answered in the conversation. Own answer: how unlikely it was to the model, in "
        "nats per token; lower is better, and only models with the same tokens compare. Of answers "
        "that were cut the end is not measured: policy is that of its other parts, and there is no "
        "heuristic.",
        "header": ["", "n", *models],
        "rows": rows,
    }
    parts = {
        "id": "parts",
        "title": "Parts of the scores",
        "caption": "Means. Weights are those of source document 000, over the parts that are "
        "measured.",
        "header": ["", "n", *models],
        "rows": [
            [words, *_cells([found["parts"][part] for found in models.values()], part)]
            for part, words in _PARTS.items()
        ],
    }
    return [means, parts]


_CONSTANT = frozenset({"content_correctness", "content_relevance"})


def _cells(found: list[Document], name: str) -> list[str]:
    """The n of a row of the table, and the mean of each model."""
    most = max(one["n"] for one in found)
    if name in _CONSTANT:
        return ["–", *("not measured" for _ in found)]
    few = [f" n={one['n']}" if 0 < one["n"] < most else "" for one in found]
    return [str(most), *(_mean(one, name) + n for one, n in zip(found, few, strict=True))]


def _mean(found: Document, name: str) -> str:
    """A mean with its interval; a dash if nothing was measured."""
    if found["mean"] is None:
        return "–"
    if name in _PARTS:
        return percent(found["mean"], 0)
    if name in _SHARES:
        return f"{percent(found['mean'], 0)} {span(found['low'], found['high'], 0)}"
    return f"{found['mean']:.2f} [{found['low']:.2f} to {found['high']:.2f}]"


def _comparison(metrics: Document) -> Document:
    found = metrics["ab"]
    judge = found["judge"]
    rows = [
        [
            words,
            *(str(one[name]) for name in ("n", "wins", "losses", "ties", "failed")),
            f"{percent(one['win_rate'])} / {percent(one['loss_rate'])}",
            f"{points(one['difference']['mean'])} "
            f"{span(one['difference']['low'], one['difference']['high'])}",
            p_value(one["p"]),
        ]
        for words, one in (
            (judge["writer"], judge["figures"]),
            ("heuristic of document 000", found["heuristic"]),
        )
        if one is not None
    ]
    return {
        "id": "comparison",
        "title": f"A/B comparison with the {WORDS[found['against']]}",
        "caption": "Pairs of answers to the same held-out prompt. A judge is asked in both orders, "
        "and wins and losses need both replies. Failed pairs (a missing answer or reply) are in "
        "no rate. Difference: won less lost, with the 95 % interval of a bootstrap over "
        "conversations; p of the exact sign test over conversations, each won or lost by most of "
        "its pairs.",
        "header": ["", "n", "Won", "Lost", "Ties", "Failed", "Won / lost", "Difference", "p"],
        "rows": rows,
    }


def _pairs(ab: Document) -> Document:
    """What the judge said of pairs that were won or lost: the first three of each."""
    report = ab["report"]
    verdicts = [] if report is None else report["verdicts"]
    chosen = [
        one for outcome in (1, -1) for one in [v for v in verdicts if v["outcome"] == outcome][:3]
    ]
    words = {1: "won", -1: "lost"}
    return {
        "id": "verdicts",
        "title": "What the judge said",
        "caption": "The first pairs that were won and lost, with the reason given in each order.",
        "header": ["", "Row", "Reasons"],
        "rows": [
            [words[one["outcome"]], one["row_id"], " / ".join(map(cut, one["reasons"]))]
            for one in chosen
        ],
        "prose": True,
    }


def _examples(metrics: Document) -> Document:
    """Some held-out prompts with what was answered, for the eye."""
    return {
        "id": "examples",
        "title": "Answers to some held-out prompts",
        "caption": "Spread evenly over the held-out prompts; long texts are cut. The own answer is "
        "what was said in the conversation.",
        "header": ["Prompt", "Own answer", *(WORDS[name] for name in _shown_answers(metrics))],
        "rows": [
            [
                cut(one["prompt"], _EXAMPLE),
                cut(one["target"], _EXAMPLE),
                *(cut(one["answers"][name], _EXAMPLE) for name in _shown_answers(metrics)),
            ]
            for one in metrics["examples"]
        ],
        "prose": True,
    }


def _shown_answers(metrics: Document) -> list[str]:
    answers = metrics["examples"][0]["answers"] if metrics["examples"] else {}
    return [name for name in WORDS if name in answers]


def _surgery(report: Document) -> list[Document]:
    rules = report["rules"]
    counted = {
        "id": "surgery",
        "title": "Corpus surgery",
        "caption": f"{report['turns']} answers of {report['conversations']} conversations, "
        f"{report['frictions']} stretches in which the user was annoyed. How many answers each "
        "rule touched; an answer can be touched by several.",
        "header": ["Rule", "Answers", "What it says"],
        "rows": [
            [_words(name), str(found["turns"]), RULES.get(name, "")]
            for name, found in _in_order(rules)
        ],
        "prose": True,
    }
    names = sorted({name for found in report["verdicts"].values() for name in found})
    verdicts = {
        "id": "thresholds",
        "title": "Verdicts by stall threshold",
        "caption": "Answers by verdict at the threshold used and at the strict one. Stalling "
        "without need is unjustified.",
        "header": ["Stall score from", *names],
        "rows": [
            [threshold, *(str(found.get(name, 0)) for name in names)]
            for threshold, found in report["verdicts"].items()
        ],
    }
    examples = {
        "id": "surgery-examples",
        "title": "An example of each rule",
        "caption": "The start of the request and the end of the answer, redacted. surgery.json "
        "has more.",
        "header": ["Rule", "Request", "Answer"],
        "rows": [
            [_words(name), example["request"], example["answer"]]
            for name, found in _in_order(rules)
            for example in found["examples"][:1]
        ],
        "prose": True,
    }
    return [counted, verdicts, examples]


def _in_order(rules: Document) -> list[tuple[str, Document]]:
    """Rules in the order of :data:`RULES`, unknown ones last."""
    order = list(RULES)
    return sorted(
        rules.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)
    )


def _words(rule: str) -> str:
    return rule.replace("_", " ")


def _changed(metrics: Document) -> Document:
    return {
        "id": "departures",
        "title": "What source document 000 gave for nothing",
        "caption": "Constant or easily gained parts of the original, and what is done here.",
        "header": ["Part", "Here"],
        "rows": [[name, text] for name, text in metrics["changed"].items()],
        "prose": True,
    }
