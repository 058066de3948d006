"""The whole judgement: teachers, base, students, cheap ways, the bar, and both gates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from tracetune.eisv.baselines import BASELINES, PUBLISHED_RECORDS, published_mix
from tracetune.eisv.classifier import Classified, classify_numbers, shown_numbers
from tracetune.eisv.coherence import coherence_many
from tracetune.eisv.examples import spread_groups
from tracetune.eisv.expression import Labels
from tracetune.eisv.gates import (
    Gate1Results,
    HonestTrial,
    HonestVerdict,
    Verdict,
    gate1,
    honest_gate,
    honest_trial,
    results_of,
)
from tracetune.eisv.prompt import VARIANTS, Variant, answer_text
from tracetune.eisv.score import Judged, Scores, score_all
from tracetune.eisv.windows import window_of
from tracetune.records import EisvTrajectory, Example, Record

TEMPERATURES = (1.0, 0.3, 0.0)
"""Always all three, because Gate 1 depends on them (A10.2); 0 is greedy."""
TEACHER, BASE = "teacher", "base"
STUDENTS = ("student", "student_numbers")
"""With the shape, and with the numbers only."""
NO_PROMPT = "none"
"""The variant of what reads no prompt: baselines know the shape."""
BASELINE_DRAWS = 20
"""How often the baselines answer each held-out window; there is no model to wait for."""


class Answered(Judged):
    """One answer to a held-out window.

    Attributes:
        window: Id of its trajectory.
        draw: Number of the answer among those at its temperature.
        tokens: Generated tokens; 0 for what is no language model.
        finish: ``stop``, ``length`` (cut) or ``too_long`` (not asked).
    """

    window: str
    draw: int
    tokens: int
    finish: str


class Judgement(Record):
    """What was found.

    Attributes:
        scores: Of every model, variant and temperature.
        gate1: The verdict of Gate 1 on each of them, in the same order.
        honest: The honest gate on the teachers.
        honest_students: The same on the student that gets the numbers only.
        classified: The bar of each variant.
    """

    scores: list[Scores]
    gate1: list[Verdict]
    honest: HonestVerdict
    honest_student: HonestVerdict | None
    classified: dict[str, Classified]

    def results(self) -> dict[str, Gate1Results]:
        """The document for Gate 1 of each model, variant and temperature by a name for a file."""
        return {file_name(found): results_of(found) for found in self.scores}


def file_name(found: Scores) -> str:
    """A name for the results of scores: model, variant, temperature."""
    return f"{found.model}-{found.variant}-t{found.temperature:g}"


def drawn_at(at_1: int, at_03: int) -> list[float]:
    """The temperatures of all answers to one window."""
    return [1.0] * at_1 + [0.3] * at_03 + [0.0]


def answered(
    rows: Sequence[Example],
    texts: Sequence[Sequence[str]],
    temperatures: Sequence[float],
    *,
    model: str,
    variant: str,
    tokens: Sequence[Sequence[int]] | None = None,
    finishes: Sequence[Sequence[str]] | None = None,
) -> list[Answered]:
    """Answers to held-out rows with what is known of the rows.

    Args:
        rows: Held-out rows of one variant.
        texts: The answers to each, in the order of ``temperatures``.
        temperatures: Of each answer.
        model: Who answered.
        variant: What the prompt showed.
        tokens: Generated tokens of each answer.
        finishes: How each answer ended.
    """
    groups = spread_groups(rows)
    found = []
    for i, (row, given) in enumerate(zip(rows, texts, strict=True)):
        seen: dict[float, int] = defaultdict(int)
        for j, (text, temperature) in enumerate(zip(given, temperatures, strict=True)):
            found.append(
                Answered(
                    model=model,
                    variant=variant,
                    temperature=temperature,
                    shape=row.tags["shape"],
                    answer=text,
                    label=label_tokens(row),
                    pattern=row.tags["pattern"],
                    group=groups[i],
                    window=row.provenance.ids["trajectory"],
                    draw=seen[temperature],
                    tokens=0 if tokens is None else tokens[i][j],
                    finish="stop" if finishes is None else finishes[i][j],
                )
            )
            seen[temperature] += 1
    return found


def label_tokens(row: Example) -> list[str]:
    """The EISV tokens of a row's own answer."""
    from tracetune.eisv.answer import parse_answer

    return list(parse_answer(row.completion[0].content).eisv_tokens)


def baseline_answers(rows: Sequence[Example], *, seed: int) -> list[Answered]:
    """Answers of the baselines of A6, which are given the true shape.

    Args:
        rows: Held-out rows of one variant.
        seed: Of the first draw; the next ones count on.
    """
    shapes = [row.tags["shape"] for row in rows]
    times = [1.0] * BASELINE_DRAWS
    found = []
    for name, draw in BASELINES.items():
        drawn = [_texts(draw(shapes, seed + 2 * i)) for i in range(BASELINE_DRAWS)]
        texts = [list(each) for each in zip(*drawn, strict=True)]
        found += answered(rows, texts, times, model=name, variant=NO_PROMPT)
    return found


def _texts(labels: Labels) -> list[str]:
    return [answer_text(one.tokens, one.lumen, one.pattern) for one in labels.expressions()]


def published_figures(seed: int) -> dict[str, float]:
    """Coherence of the baselines by the published protocol: mix and size of A6."""
    shapes = published_mix(PUBLISHED_RECORDS)
    return {
        name: float(coherence_many(shapes, draw(shapes, seed)).mean())
        for name, draw in BASELINES.items()
    }


def classify_windows(
    train: Sequence[EisvTrajectory], test: Sequence[EisvTrajectory], *, seed: int
) -> dict[str, Classified]:
    """The bar of every variant: what a classifier makes of the numbers of its prompt.

    There is none where there are no windows to learn from or none to ask about.
    """
    if not train or not test:
        return {}
    windows = [window_of(row) for row in train], [window_of(row) for row in test]
    shapes = [row.shape for row in train], [row.shape for row in test]
    return {
        variant: classify_numbers(
            shown_numbers(windows[0], variant),
            shapes[0],
            shown_numbers(windows[1], variant),
            shapes[1],
            variant=variant,
            seed=seed,
        )
        for variant in VARIANTS
    }


def judge(
    answers: Sequence[Answered],
    classified: Mapping[str, Classified],
    test: Sequence[EisvTrajectory],
    *,
    seed: int,
) -> Judgement:
    """Scores, Gate 1 on each of them, and the honest gate.

    Args:
        answers: Of all models.
        classified: As :func:`classify_windows` gives it for ``test``.
        test: The held-out trajectories, in the order in which they were classified.
        seed: Of the intervals.
    """
    place = {row.id: i for i, row in enumerate(test)}
    found = score_all(answers, seed=seed)
    students = _trials([a for a in answers if a.model == STUDENTS[1]], classified, place, seed)
    return Judgement(
        scores=found,
        gate1=[gate1(results_of(one)) for one in found],
        honest=honest_gate(
            _trials([a for a in answers if a.model == TEACHER], classified, place, seed)
        ),
        honest_student=honest_gate(students) if students else None,
        classified=dict(classified),
    )


def _trials(
    answers: Iterable[Answered],
    classified: Mapping[str, Classified],
    place: Mapping[str, int],
    seed: int,
) -> list[HonestTrial]:
    """One trial for each variant that does not name the shape, and each temperature."""
    parts: dict[tuple[str, float], list[Answered]] = defaultdict(list)
    for answer in answers:
        if answer.variant in VARIANTS[1:]:
            parts[answer.variant, answer.temperature].append(answer)
    trials = []
    for (variant, _), rows in parts.items():
        bar = classified[cast(Variant, variant)]
        at = [place[row.window] for row in rows]
        predicted, single = [bar.predicted[i] for i in at], [bar.one_token[i] for i in at]
        trials.append(honest_trial(rows, predicted, single, seed=seed))
    return trials
