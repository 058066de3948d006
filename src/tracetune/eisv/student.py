"""The student: small forests that learn the answers of the teacher (A9, A11.14).

The published student had three forests, was given the true shape, weighed rare answers like common
ones and could not say a third token. Here a fourth forest says it, each forest knows what was said
before it, rows weigh the same (a student imitates its teacher, not an even mix), and a student
without the shape can be made as well.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from tracetune.eisv.answer import fits_pattern, parse_answer
from tracetune.eisv.prompt import NUMBER_NAMES
from tracetune.eisv.states import Floats
from tracetune.eisv.student_predictor import FORMAT, LEAF, VERSION, Prediction, Speaker, Student
from tracetune.eisv.vocabulary import (
    BRIDGE,
    EISV_TOKENS,
    INQUIRY_TOKENS,
    PATTERNS,
    SHAPES,
    shape_index,
)
from tracetune.errors import DataError
from tracetune.files import canonical_json, write_text
from tracetune.options import Options
from tracetune.records import Record

FORESTS = ("pattern", "token_1", "token_2", "token_3")


class StudentOptions(Options):
    """Size of the student."""

    trees: int = Field(24, ge=1, description="Trees of each forest.")
    depth: int = Field(7, ge=1, description="Deepest level of a tree.")
    min_leaf: int = Field(10, ge=1, description="Fewest rows in a leaf.")


class Lesson(Record):
    """One answer of the teacher to learn from.

    Attributes:
        numbers: The twelve numbers of its window.
        shape: The shape of the window; used by a student that takes it.
        answer: What the teacher wrote.
    """

    numbers: list[float] = Field(min_length=len(NUMBER_NAMES), max_length=len(NUMBER_NAMES))
    shape: str
    answer: str


class Report(Record):
    """What a student was made from.

    Attributes:
        lessons: Answers of the teacher that were given.
        used: Those it learned from.
        not_in_vocabulary: Those left out because a field or a word of them is none.
        inconsistent: Those left out because their tokens are not what their pattern says.
        triples: TRIPLE answers among those used; none of them is cut.
        with_shape: Whether the student takes the shape.
    """

    lessons: int
    used: int
    not_in_vocabulary: int
    inconsistent: int
    triples: int
    with_shape: bool


class TrainedStudent:
    """A student as scikit-learn grew it.

    Args:
        forests: By name; those of later tokens are missing where the teacher never said one.
        head: Its document without the trees.
        report: What it was made from.
    """

    def __init__(self, forests: dict[str, Any], head: dict[str, Any], report: Report) -> None:
        self._forests, self._head = forests, head
        self._speaker = Speaker(head, self.probabilities)
        self.report = report

    def probabilities(self, forest: str, row: Sequence[float]) -> list[float]:
        """The shares of the classes of a forest as scikit-learn gives them."""
        table = np.asarray(row, dtype=np.float64)[None]
        found: list[float] = self._forests[forest].predict_proba(table)[0].tolist()
        return found

    def features(self, numbers: Sequence[float], shape: str | None = None) -> list[float]:
        """The input of the first forests; see ``student_predictor``."""
        return self._speaker.features(numbers, shape)

    def answer(
        self,
        numbers: Sequence[float],
        shape: str | None = None,
        *,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Prediction:
        """The answer to a window; see ``student_predictor``, which gives the same."""
        return self._speaker.answer(numbers, shape, temperature=temperature, seed=seed)

    def document(self) -> dict[str, Any]:
        """The student as JSON values, trees included."""
        forests = {
            name: [_tree(found) for found in forest.estimators_]
            for name, forest in self._forests.items()
        }
        return {**self._head, "forests": forests}


def train_student(
    lessons: Sequence[Lesson],
    *,
    with_shape: bool,
    seed: int,
    options: StudentOptions | None = None,
) -> TrainedStudent:
    """Grows a student on answers of a teacher.

    Args:
        lessons: Answers of the teacher to training windows.
        with_shape: Whether the student is given the shape, or the numbers only.
        seed: Of the forests.
        options: Its size.

    Raises:
        DataError: No answer can be learned from, an unknown shape, or a number is not finite.
    """
    size = options or StudentOptions()
    rows, report = _usable(lessons, with_shape)
    numbers = np.array([lesson.numbers for lesson, _, _ in rows], dtype=np.float64)
    for i, (lesson, _, _) in enumerate(rows):
        shape_index(lesson.shape, where=f"lesson {i}")
    if not np.isfinite(numbers).all():
        raise DataError(
            "a lesson holds a number that is not finite",
            where=f"lesson {int(np.argwhere(~np.isfinite(numbers))[0][0])}",
            remedy="check the states of its window",
        )
    head = _head(numbers, with_shape)
    speaker = Speaker({**head, "classes": {}}, lambda name, row: [])
    tables: dict[str, tuple[list[list[float]], list[str]]] = {name: ([], []) for name in FORESTS}
    for lesson, tokens, pattern in rows:
        said: list[str] = []
        row = speaker.features(lesson.numbers, lesson.shape if with_shape else None)
        _put(tables["pattern"], row, pattern)
        for name, token in zip(FORESTS[1:], tokens, strict=False):
            if not (name == "token_2" and pattern == "REPETITION"):
                _put(tables[name], row, token)
            row = row + ([float(pattern == one) for one in PATTERNS] if not said else [])
            row = row + [float(token == one) for one in EISV_TOKENS]
            said.append(token)
    forests = {
        name: _grow(table, wanted, size, seed + i)
        for i, (name, (table, wanted)) in enumerate(tables.items())
        if wanted
    }
    head["classes"] = {
        name: [str(one) for one in forest.classes_] for name, forest in forests.items()
    }
    return TrainedStudent(forests, head, report)


def _put(table: tuple[list[list[float]], list[str]], row: list[float], wanted: str) -> None:
    table[0].append(row)
    table[1].append(wanted)


def _usable(
    lessons: Sequence[Lesson], with_shape: bool
) -> tuple[list[tuple[Lesson, tuple[str, ...], str]], Report]:
    rows, unknown, inconsistent = [], 0, 0
    for lesson in lessons:
        answer = parse_answer(lesson.answer)
        if not answer.in_vocabulary:
            unknown += 1
        elif not fits_pattern(answer.eisv_tokens, answer.pattern):
            inconsistent += 1
        else:
            rows.append((lesson, answer.eisv_tokens, answer.pattern))
    if not rows:
        raise DataError(
            f"the student has nothing to learn from: of {len(lessons)} answers of the teacher "
            f"{unknown} are not in vocabulary and {inconsistent} contradict their pattern",
            remedy="train the teacher longer, or give it a larger base",
        )
    report = Report(
        lessons=len(lessons),
        used=len(rows),
        not_in_vocabulary=unknown,
        inconsistent=inconsistent,
        triples=sum(pattern == "TRIPLE" for _, _, pattern in rows),
        with_shape=with_shape,
    )
    return rows, report


def _head(numbers: Floats, with_shape: bool) -> dict[str, Any]:
    scales = numbers.std(axis=0)
    return {
        "format": FORMAT,
        "version": VERSION,
        "with_shape": with_shape,
        "numbers": list(NUMBER_NAMES),
        "means": numbers.mean(axis=0).tolist(),
        "scales": np.where(scales > 0, scales, 1.0).tolist(),
        "shapes": list(SHAPES),
        "tokens": list(EISV_TOKENS),
        "inquiry_tokens": list(INQUIRY_TOKENS),
        "patterns": list(PATTERNS),
        "bridge": {token: list(pair) for token, pair in BRIDGE.items()},
    }


def _grow(table: list[list[float]], wanted: list[str], size: StudentOptions, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        n_estimators=size.trees,
        max_depth=size.depth,
        min_samples_leaf=size.min_leaf,
        random_state=seed,
        n_jobs=1,
    )
    return model.fit(np.array(table), np.array(wanted))


def _tree(estimator: Any) -> dict[str, list[Any]]:
    """A tree as lists: of each node feature, threshold, left and right; of leaves their counts.

    Leaf shares are kept as the counts of rows behind them, which are whole numbers, so that nothing
    is lost and the document stays small.
    """
    found = estimator.tree_
    inner = found.children_left >= 0
    sizes = found.weighted_n_node_samples
    counts = np.rint(found.value[:, 0, :] * sizes[:, None]).astype(int)
    places = np.cumsum(~inner) - 1
    return {
        "feature": np.where(inner, found.feature, LEAF).tolist(),
        "threshold": [
            float(t) if split else 0 for t, split in zip(found.threshold, inner, strict=True)
        ],
        "left": np.where(inner, found.children_left, places).tolist(),
        "right": np.where(inner, found.children_right, 0).tolist(),
        "counts": [
            [int(part) for place in np.flatnonzero(row) for part in (place, row[place])]
            for row in counts[~inner]
        ],
    }


def write_student(student: TrainedStudent, path: Path) -> None:
    """Writes the document of a student, whole or not at all."""
    write_text(path, canonical_json(student.document()) + "\n")


def load_student(path: Path) -> Student:
    """Reads a student for use in this project.

    Raises:
        DataError: The file is missing or holds no student.
    """
    try:
        return Student.load(path)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"no student can be read: {error}",
            where=str(path),
            remedy="train the student again",
        ) from error


class Footprint(Record):
    """What a student costs.

    Attributes:
        bytes: Size of its document.
        load_ms: Time to read it.
        answers: Answers that were timed, one after the other.
        median_ms: Time of an answer: half of them took less.
        p95_ms: 95 % took less.
    """

    bytes: int
    load_ms: float
    answers: int
    median_ms: float
    p95_ms: float


def measure_student(path: Path, lessons: Sequence[Lesson], *, answers: int = 200) -> Footprint:
    """Size of a student and the time it takes without scikit-learn, on this machine.

    Args:
        path: Its document.
        lessons: Windows to answer, at least one; they are taken in turn. Their answers are not
            looked at.
        answers: How many answers are timed.

    Raises:
        DataError: The file is missing or holds no student, or there are no windows.
    """
    if not lessons:
        raise DataError("there are no windows to time", remedy="give held-out windows")
    started = time.perf_counter()
    student = load_student(path)
    load_ms = (time.perf_counter() - started) * 1000
    times = []
    for i in range(answers):
        lesson = lessons[i % len(lessons)]
        shape = lesson.shape if student.with_shape else None
        started = time.perf_counter()
        student.answer(lesson.numbers, shape)
        times.append((time.perf_counter() - started) * 1000)
    return Footprint(
        bytes=path.stat().st_size,
        load_ms=load_ms,
        answers=answers,
        median_ms=statistics.median(times),
        p95_ms=statistics.quantiles(times, n=20, method="inclusive")[-1],
    )
