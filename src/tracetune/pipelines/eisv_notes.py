"""What the report of ``eisv`` says: tables, sentences, lines at the end of a run."""

from __future__ import annotations

from typing import Any

from tracetune.eisv.gates import GATE_1_DOES_NOT_SHOW, MARGIN
from tracetune.eisv.judge import BASE, NO_PROMPT, STUDENTS, TEACHER
from tracetune.eisv.prompt import VARIANTS
from tracetune.eisv.vocabulary import SHAPES
from tracetune.evaluation.gate import Gate
from tracetune.evaluation.names import percent
from tracetune.evaluation.report import number
from tracetune.pipelines.eisv_figures import WORDS, shape_name, temperature_name

Document = dict[str, Any]

MODELS = {
    TEACHER: "teacher",
    BASE: "base model",
    STUDENTS[0]: "student",
    STUDENTS[1]: "student, numbers only",
    "random": "random words",
    "rules": "expression rules",
    "rules_feedback": "rules with feedback",
    "shape_matched": "words that fit",
    "prompt_conditioned": "70 % words that fit",
    "lookup_table": "table of nine lines",
}
"""Models and baselines, in words."""


def notes(
    windows: Document, mix: Document, decision: Document, metrics: Document, students: Document
) -> list[str]:
    """What a reader should know beside the verdict."""
    honest = metrics["honest"]["verdict"]
    found = [
        f"Decision: {decision['reason']}.",
        _source(windows),
        f"Each shape is filled up to {mix['min_per_shape']} windows with generated ones: "
        f"{sum(one['generated'] for one in mix['shapes'].values())} of "
        f"{sum(sum(one.values()) for one in mix['shapes'].values())} windows.",
        "What Gate 1 shows: answers have the form asked for, and their words fit the shape. What "
        f"it does not show: {_lower(GATE_1_DOES_NOT_SHOW)}",
        f"What the honest gate shows: {_lower(honest['shows'])} What it does not show: "
        f"{_lower(honest['does_not_show'])}",
    ]
    if metrics["reason"]:
        found.append(f"Not every teacher was trained: {metrics['reason']}.")
    if students["reason"] and students["reason"] != metrics["reason"]:
        found.append(f"No student was made: {students['reason']}.")
    return found


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _source(windows: Document) -> str:
    if windows["source"] == "none":
        return "There is no source: all windows are generated."
    states, made = windows["states"], windows["windows"]
    text = (
        f"{states['read']} states every {number(windows['median_interval_s'])} s (median), "
        f"{windows['gaps']} gaps, {states['duplicates']} at the time of another one, "
        f"{sum(states['dropped'].values())} dropped: {made['made']} windows of "
        f"{number(made['size'])} states"
    )
    if windows["source"] == "published":
        labels, dropped = windows["labels"], sum(windows["rows"]["dropped"].values())
        text += (
            f" from {windows['rows']['read']} of the published table, of which {dropped} hold a "
            f"gap. {labels['disagree']} labels differ from what their states say and were "
            f"replaced, {labels['kept']} cannot be derived and were kept."
        )
    else:
        text += f", a new one every {made['stride']}."
    if made["impossible"]:
        text += (
            " At even steps of that length the rules cannot give "
            f"{', '.join(map(shape_name, made['impossible']))}."
        )
    return text


def tables(metrics: Document, blocks: Document, students: Document) -> list[Document]:
    """All tables of the report, in their order."""
    found = [_answers(metrics), _baselines(metrics), _honest(metrics), _bars(metrics)]
    found += [_shapes(metrics), _students(metrics, students), _data(blocks)]
    return [table for table in found if table["rows"]]


def _mean(found: Document | None) -> str:
    """A mean with its interval."""
    if found is None:
        return "–"
    if found["low"] is None:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f} [{found['low']:.3f} to {found['high']:.3f}]"


def _value(found: Document | None) -> float | None:
    return None if found is None else found["mean"]


def _passed(verdict: Document) -> str:
    return "passed" if verdict["passed"] else "failed"


def _signed(found: Document) -> str:
    if found["low"] is None:
        return f"{found['mean']:+.3f}"
    return f"{found['mean']:+.3f} [{found['low']:+.3f} to {found['high']:+.3f}]"


def _rows(metrics: Document) -> list[tuple[Document, Document]]:
    order = list(MODELS)
    pairs = list(zip(metrics["scores"], metrics["gate1"], strict=True))
    return sorted(pairs, key=lambda pair: order.index(pair[0]["model"]))


def _title(found: Document) -> str:
    words = "" if found["variant"] == NO_PROMPT else f", {WORDS[found['variant']]}"
    return f"{MODELS[found['model']]}{words}, {temperature_name(found['temperature'])}"


def _answers(metrics: Document) -> Document:
    return {
        "id": "answers",
        "title": "Answers to held-out windows",
        "caption": f"{metrics['n']} held-out windows, several answers to each; in brackets the "
        "95 % interval of a bootstrap over windows, measured ones in pairs of neighbours; pairs "
        "beside each other still share states. Coherence: share of the words that fit the shape, "
        "over answers in vocabulary. Imitator: what a perfect imitator of the labels has at that "
        "temperature. Distance: total variation between the words and those of the labels, mean of "
        "the shapes; beside it that of labels drawn again.",
        "header": [
            *("Who, what the prompt shows, temperature", "n", "Coherence", "Imitator", "Valid"),
            *("Pattern right", "Distance", "Consistent", "Gate 1"),
        ],
        "rows": [
            [
                _title(one),
                str(one["n"]),
                _mean(one["coherence"]),
                number(one["coherence_imitator"]),
                percent(one["valid_rate"]["mean"]),
                f"{percent(_value(one['pattern_accuracy']))}"
                f" (at most {percent(one['pattern_ceiling'], 0)})",
                f"{number(one['total_variation'])} ({number(one['total_variation_noise'])})",
                percent(one["consistent"]),
                _passed(verdict),
            ]
            for one, verdict in _rows(metrics)
            if one["variant"] != NO_PROMPT
        ],
    }


def _baselines(metrics: Document) -> Document:
    return {
        "id": "baselines",
        "title": "What needs no model",
        "caption": "All of them are told the shape. The table says one fitting word per shape and "
        "passes Gate 1. Published mix: the protocol of the source, 21,452 records.",
        "header": ["", "n", "Coherence", "Gate 1", "Coherence, published mix"],
        "rows": [
            [
                MODELS[one["model"]],
                str(one["n"]),
                _mean(one["coherence"]),
                _passed(verdict),
                number(metrics["published"][one["model"]]),
            ]
            for one, verdict in _rows(metrics)
            if one["variant"] == NO_PROMPT
        ],
    }


def _honest(metrics: Document) -> Document:
    students = (metrics["honest_student"] or {"trials": []})["trials"]
    return {
        "id": "honest",
        "title": "Honest gate: is the shape recognised from the numbers alone?",
        "caption": "All answers count, one that is not in vocabulary with 0. Gain: coherence with "
        "the own shape less that with the shapes of all windows; 0 for an answer that does not "
        "depend on the window. Bar: what a classifier on the same numbers gets with the expression "
        "rules, or with one word where answers are sharper than the labels. Decided by the teacher "
        f"without shape and duration at T = 1: gain above 0, difference above -{MARGIN:.2f}.",
        "header": ["", "n", "Coherence", "Gain", "Bar", "Difference", "Recognised", "Not worse"],
        "rows": [
            [
                _title(one),
                str(one["n"]),
                number(one["coherence"]["mean"]),
                _signed(one["gain"]),
                f"{one['classifier_' + one['bar']]['mean']:.3f} ({one['bar'].replace('_', ' ')})",
                _signed(one["difference"]),
                number(one["recognised"]),
                number(one["not_worse"]),
            ]
            for one in [*metrics["honest"]["trials"], *students]
        ],
    }


def _bars(metrics: Document) -> Document:
    return {
        "id": "classifier",
        "title": "The classifier on the numbers of the prompt",
        "caption": "Extremely randomised trees on the numbers that the prompt shows. The line of "
        "the shape is no number, so the first two rows are the same.",
        "header": ["", "Windows to learn", "Windows asked", "Accuracy", "Balanced accuracy"],
        "rows": [
            [
                WORDS[variant],
                str(one["n_train"]),
                str(one["n_test"]),
                percent(one["accuracy"]),
                percent(one["balanced_accuracy"]),
            ]
            for variant, one in metrics["classified"].items()
        ],
    }


def _shapes(metrics: Document) -> Document:
    found = {
        one["temperature"]: one["per_shape"]
        for one in metrics["scores"]
        if (one["model"], one["variant"]) == (TEACHER, VARIANTS[0])
    }
    first: Document = found.get(1.0, {})
    return {
        "id": "shapes",
        "title": "The released teacher by shape",
        "caption": "Coherence by temperature; words and distance at T = 1. * fewer than half as "
        "many different words as the labels, a sign of collapse.",
        "header": [
            *("Shape (answers at T = 1)", *(f"{temperature_name(t)}" for t in found)),
            *("Valid", "Different words", "Distance"),
        ],
        "rows": [
            [
                f"{shape_name(shape)} ({first[shape]['n']})",
                *(number(shapes[shape]["coherence"]) for shapes in found.values()),
                percent(first[shape]["valid_rate"]),
                f"{first[shape]['distinct_tokens']} of {first[shape]['distinct_label_tokens']}"
                + (" *" if first[shape]["few_tokens"] else ""),
                f"{number(first[shape]['total_variation'])} "
                f"({number(first[shape]['total_variation_noise'])})",
            ]
            for shape in SHAPES
            if shape in first
        ],
    }


def _students(metrics: Document, students: Document) -> Document:
    return {
        "id": "students",
        "title": "Students",
        "caption": "Forests that learned answers of the teacher to training windows; the predictor "
        "needs no library and gives the answers of scikit-learn. Three-word patterns are whole.",
        "header": [
            *("", "Answers learned from", "Left out", "Triples", "Coherence at T = 1", "Size, kB"),
            *("ms per answer, median", "95 %"),
        ],
        "rows": [
            [
                MODELS[name],
                str(one["used"]),
                str(one["not_in_vocabulary"] + one["inconsistent"]),
                str(one["triples"]),
                _mean(_coherence(metrics, name)),
                f"{one['footprint']['bytes'] / 1000:.0f}",
                f"{one['footprint']['median_ms']:.2f}",
                f"{one['footprint']['p95_ms']:.2f}",
            ]
            for name, one in students["students"].items()
        ],
    }


def _coherence(metrics: Document, model: str) -> Document | None:
    for one in metrics["scores"]:
        if (one["model"], one["temperature"]) == (model, 1.0):
            found: Document | None = one["coherence"]
            return found
    return None


def _data(blocks: Document) -> Document:
    sides = ("train", "validation", "test", "dropped")
    origins = {"lumen_real": "measured", "synthetic": "generated"}
    return {
        "id": "windows",
        "title": "Windows by shape",
        "caption": "Measured windows are divided by blocks of time with a gap of at least one "
        "window; those in a gap are dropped. Generated ones are divided within their shape.",
        "header": ["Shape", *sides],
        "rows": [
            [
                f"{shape_name(shape)}, {origins[origin]}",
                *(number(found[side]) for side in sides),
            ]
            for shape, of_shape in blocks["shapes"].items()
            for origin, found in sorted(of_shape.items())
        ],
    }


def effect(metrics: Document) -> str:
    """What the number of windows allows to see."""
    trial = next(
        (
            one
            for one in metrics["honest"]["trials"]
            if (one["variant"], one["temperature"]) == (VARIANTS[-1], 1.0)
        ),
        None,
    )
    if trial is None or trial["difference"]["low"] is None:
        return f"{metrics['n']} held-out windows."
    half = (trial["difference"]["high"] - trial["difference"]["low"]) / 2
    return (
        f"{metrics['n']} held-out windows with {trial['n']} answers at temperature 1 tell a "
        f"difference of coherence to within about {half:.2f} (95 %)."
    )


def summary_lines(metrics: Document, gate: Gate, decision: Document) -> list[str]:
    """The lines a person reads at the end of a run."""
    lines = [f"Decision {decision['reason']}"]
    lines += [
        f"  {_title(one):<52} coherence {number(_value(one['coherence']))}  valid "
        f"{percent(one['valid_rate']['mean'])}  Gate 1 {_passed(verdict)}"
        for one, verdict in _rows(metrics)
        if one["model"] in (TEACHER, *STUDENTS, "lookup_table")
    ]
    honest = metrics["honest"]["verdict"]
    lines.append(f"Honest   {'passed' if honest['passed'] else '; '.join(honest['reasons'])}")
    return [*lines, f"Verdict  {gate.verdict}"]
