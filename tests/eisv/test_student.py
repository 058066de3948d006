"""The student: the same with scikit-learn and without anything, three tokens, small and quick."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.project import ROOT
from tracetune.eisv.answer import consistency, parse_answer
from tracetune.eisv.baselines import BASELINES
from tracetune.eisv.coherence import coherence
from tracetune.eisv.expression import label_many
from tracetune.eisv.prompt import answer_text, numbers_of
from tracetune.eisv.states import Window, states_of
from tracetune.eisv.student import (
    Lesson,
    StudentOptions,
    load_student,
    measure_student,
    train_student,
    write_student,
)
from tracetune.eisv.student_predictor import numbers_of as numbers_without_numpy
from tracetune.eisv.synthetic import generate, seed_of
from tracetune.eisv.vocabulary import SHAPES
from tracetune.errors import DataError

PREDICTOR = ROOT / "src" / "tracetune" / "eisv" / "student_predictor.py"


def windows_of(start, stop):
    return [
        (shape, generate(shape, seed=seed_of(2, shape, i)))
        for shape in SHAPES
        for i in range(start, stop)
    ]


def lessons_of(windows, draw=label_many):
    said = draw([shape for shape, _ in windows], 5).expressions()
    numbers = numbers_of([window for _, window in windows]).tolist()
    return [
        Lesson(
            numbers=row,
            shape=shape,
            answer=answer_text(one.tokens, one.lumen, one.pattern),
        )
        for (shape, _), row, one in zip(windows, numbers, said, strict=True)
    ]


HELD_OUT = windows_of(80, 92)


@pytest.fixture(scope="module", params=[True, False], ids=["with shape", "numbers only"])
def student(request, tmp_path_factory):
    trained = train_student(lessons_of(windows_of(0, 80)), with_shape=request.param, seed=1)
    path = tmp_path_factory.mktemp("student") / "student.json"
    write_student(trained, path)
    return trained, path


def given(trained, shape):
    return shape if trained.report.with_shape else None


def test_both_predictors_give_the_same(student):
    trained, path = student
    plain = load_student(path)
    patterns = set()
    for i, lesson in enumerate(lessons_of(HELD_OUT)):
        shape = given(trained, lesson.shape)
        row = trained.features(lesson.numbers, shape)
        assert plain.features(lesson.numbers, shape) == row
        for forest, more in (("pattern", 0), ("token_1", 0), ("token_2", 20), ("token_3", 35)):
            full = row + [float(j % 7 == i % 7) for j in range(more)]
            one, two = (each.probabilities(forest, full) for each in (trained, plain))
            assert np.abs(np.array(one) - two).max() < 1e-9
            assert sum(two) == pytest.approx(1)
        for temperature in (0.0, 1.0):
            one, two = (
                each.answer(lesson.numbers, shape, temperature=temperature, seed=i)
                for each in (trained, plain)
            )
            assert one == two
            patterns.add(two.pattern)
            assert consistency(parse_answer(two.text)).agrees
    assert len(patterns) == 5


def test_it_says_three_tokens_and_fits_the_shapes(student):
    trained, path = student
    plain = load_student(path)
    lessons = lessons_of(HELD_OUT)
    greedy = [plain.answer(one.numbers, given(trained, one.shape)) for one in lessons]
    drawn = [
        plain.answer(one.numbers, given(trained, one.shape), temperature=1, seed=i)
        for i, one in enumerate(lessons)
    ]
    assert any(len(one.tokens) == 3 for one in drawn)
    assert trained.report.triples > 50

    def mean(said):
        return np.mean(
            [coherence(row.shape, one.tokens) for row, one in zip(lessons, said, strict=True)]
        )

    random_level = 0.25
    assert random_level + 0.05 < mean(drawn) < 0.55 < mean(greedy)


def test_it_draws_by_its_shares(student):
    trained, path = student
    plain, lesson = load_student(path), lessons_of(HELD_OUT)[0]
    shape = given(trained, lesson.shape)
    said = [plain.answer(lesson.numbers, shape, temperature=1, seed=i) for i in range(400)]
    share = np.mean([one.pattern == "SINGLE" for one in said])
    row = plain.features(lesson.numbers, shape)
    classes = json.loads(path.read_text())["classes"]["pattern"]
    wanted = plain.probabilities("pattern", row)[classes.index("SINGLE")]
    assert share == pytest.approx(wanted, abs=0.1)


def test_it_is_small_and_quick(student):
    _, path = student
    found = measure_student(path, lessons_of(HELD_OUT), answers=50)
    assert found.bytes == path.stat().st_size < 400_000
    assert 0 < found.median_ms <= found.p95_ms < 50
    with pytest.raises(DataError, match="no windows to time"):
        measure_student(path, [])


def test_the_predictor_runs_alone_from_a_copy(student, tmp_path):
    """Python without site-packages and without the project: only the file and the document."""
    trained, path = student
    (tmp_path / "predictor.py").write_bytes(PREDICTOR.read_bytes())
    shape, window = HELD_OUT[17]
    (tmp_path / "states.json").write_text(json.dumps(states_of(window)))
    code = (
        "import json, sys; sys.path.insert(0, '.'); from predictor import Student\n"
        f"student = Student.load({str(path)!r}); states = json.load(open('states.json'))\n"
        f"print(student.answer_states(states, {given(trained, shape)!r}).text)\n"
        "print([m for m in ('numpy', 'sklearn', 'tracetune') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    answer, _, loaded = done.stdout.strip().rpartition("\n")
    wanted = trained.answer(numbers_of([window])[0].tolist(), given(trained, shape))
    assert (answer, loaded) == (wanted.text, "[]")


def test_numbers_without_numpy():
    for _, window in HELD_OUT:
        found = numbers_without_numpy(states_of(window))
        assert found == pytest.approx(numbers_of([window])[0].tolist(), abs=1e-12)
    equal = Window(t=np.array([0.0, 1.0, 1.0, 3.0]), values=np.linspace(0.1, 0.9, 16).reshape(4, 4))
    found = numbers_without_numpy(states_of(equal))
    assert found == pytest.approx(numbers_of([equal])[0].tolist(), abs=1e-12)
    assert numbers_without_numpy([{"t": 0, "E": 1, "I": 1, "S": 0, "V": 0}])[4:] == [0.0] * 8


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ([], "needs states"),
        ([{"t": 0, "E": 1, "I": 1, "S": 0}], "state 0: V is not a finite number: None"),
        ([{"t": 0, "E": 1, "I": float("nan"), "S": 0, "V": 0}], "state 0: I is not a finite"),
        (
            [{"t": 1, "E": 1, "I": 1, "S": 0, "V": 0}, {"t": 0, "E": 1, "I": 1, "S": 0, "V": 0}],
            "go back",
        ),
    ],
)
def test_states_that_are_none(states, message):
    with pytest.raises(ValueError, match=message):
        numbers_without_numpy(states)


def test_what_a_student_refuses(student):
    trained, path = student
    plain, numbers = load_student(path), lessons_of(HELD_OUT)[0].numbers
    shape = given(trained, SHAPES[0])
    with pytest.raises(ValueError, match="12 finite numbers"):
        plain.answer(numbers[:-1], shape)
    with pytest.raises(ValueError, match="12 finite numbers"):
        plain.answer([float("inf"), *numbers[1:]], shape)
    with pytest.raises(ValueError, match="shape"):
        plain.answer(numbers, None if shape else SHAPES[0])
    with pytest.raises(ValueError, match="0 or more"):
        plain.answer(numbers, shape, temperature=-1)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "tracetune eisv student"}', None])
def test_documents_that_are_none(tmp_path, text):
    path = tmp_path / "student.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match="no student can be read") as error:
        load_student(path)
    assert str(path) in str(error.value)


def test_the_same_seed_grows_the_same_student():
    lessons = lessons_of(windows_of(0, 10))
    small = StudentOptions(trees=3, min_leaf=2)
    one, two, other = (
        train_student(lessons, with_shape=False, seed=seed, options=small).document()
        for seed in (1, 1, 2)
    )
    assert one == two != other


def test_answers_that_teach_nothing_are_counted_and_left_out():
    lessons = lessons_of(windows_of(0, 4))
    broken = [
        lesson.model_copy(update={"answer": text})
        for lesson, text in zip(
            lessons,
            ["", "EISV_TOKENS: ~warmth~\nLUMEN_TOKENS: warm\nPATTERN: TRIPLE"],
            strict=False,
        )
    ]
    found = train_student([*lessons[2:], *broken], with_shape=True, seed=1).report
    assert (found.lessons, found.used) == (36, 34)
    assert (found.not_in_vocabulary, found.inconsistent) == (1, 1)
    with pytest.raises(DataError, match="nothing to learn from: of 2 answers"):
        train_student(broken, with_shape=True, seed=1)
    with pytest.raises(DataError, match="nothing to learn from: of 0 answers"):
        train_student([], with_shape=True, seed=1)


def test_bad_lessons_are_refused():
    lessons = lessons_of(windows_of(0, 2))
    worse = lessons[0].model_copy(update={"numbers": [float("nan")] * 12})
    with pytest.raises(DataError, match="not finite"):
        train_student([worse, *lessons[1:]], with_shape=True, seed=1)
    with pytest.raises(DataError, match="there is no shape 'sleepy'"):
        train_student([lessons[0].model_copy(update={"shape": "sleepy"})], with_shape=True, seed=1)


def test_a_teacher_of_single_tokens_makes_a_student_of_single_tokens(tmp_path):
    lessons = lessons_of(windows_of(0, 8), BASELINES["lookup_table"])
    trained = train_student(lessons, with_shape=True, seed=1)
    write_student(trained, tmp_path / "student.json")
    document = json.loads(Path(tmp_path / "student.json").read_text())
    assert sorted(document["forests"]) == ["pattern", "token_1"]
    plain = load_student(tmp_path / "student.json")
    said = [plain.answer(one.numbers, one.shape, temperature=1, seed=7) for one in lessons]
    assert {one.pattern for one in said} == {"SINGLE"}
