"""The student stage of ``eisv``: the teacher answers training windows, small forests learn them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from kedro.pipeline import Node, Pipeline

from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.eisv.eisv_options import RELEASED, EisvOptions
from tracetune.eisv.student import Lesson
from tracetune.pipelines.answering import asked
from tracetune.pipelines.eisv_data_stage import of_variant
from tracetune.pipelines.namespaces import shared
from tracetune.records import EisvTrajectory, Example
from tracetune.runs import write_skipped

Document = dict[str, Any]

FILES = {"student": "student.json", "student_numbers": "student_numbers.json"}
"""The file of each student: with the shape, and with the numbers only."""


def teach(
    trajectories: list[EisvTrajectory],
    examples: list[Example],
    splits: Document,
    candidates: Document,
    base: Document,
    eisv: EisvOptions,
    seed: int,
    together: TogetherOptions,
    jobs: RemoteJobs,
) -> list[Lesson]:
    """The teacher's answers to training windows at temperature 1; none without a teacher.

    While any teacher runs elsewhere there is none, and neither if nobody can ask it.
    """
    from tracetune.eisv.prompt import summarize
    from tracetune.eisv.windows import window_of
    from tracetune.evaluation.sampling import sampled_answers
    from tracetune.splits import SplitManifest

    if candidates["judged"] is None or candidates["unasked"]:
        return []
    manifest = SplitManifest.model_validate(splits)
    rows = manifest.select(of_variant(examples, RELEASED), "train")
    windows = {row.id: row for row in trajectories}
    with asked(base, {RELEASED: candidates["adapters"][RELEASED]}, together, jobs) as generator:
        given = sampled_answers(
            generator,
            RELEASED,
            [row.prompt for row in rows],
            [1.0] * eisv.answers.lessons,
            seed=seed,
            max_new_tokens=eisv.answers.max_new_tokens,
            batch_size=eisv.answers.batch_size,
        )
    lessons = []
    for row, answers in zip(rows, given, strict=True):
        window = windows[row.provenance.ids["trajectory"]]
        numbers = summarize(window_of(window)).numbers.tolist()
        lessons += [
            Lesson(numbers=numbers, shape=window.shape, answer=answer.text) for answer in answers
        ]
    return lessons


def train_students(
    lessons: list[Lesson], candidates: Document, eisv: EisvOptions, seed: int, work: Path
) -> tuple[Path, Document]:
    """Two students as JSON with their predictor beside them: with the shape, and without it.

    What the predictor answers is compared with scikit-learn before anything is handed on.

    Returns:
        The folder, and the report: status, what each was made from, its size and latency.
    """
    from tracetune.files import atomic_folder, write_json

    folder = work / "model"
    state, reason = candidates["status"], candidates["reason"]
    if candidates["unasked"]:
        state = "unjudged"
    if state == "trained" and not any(_teaches(lesson) for lesson in lessons):
        state = "insufficient"
        reason = f"the teacher gave no usable answer to {len(lessons)} training prompts"
    if state != "trained":
        shutil.rmtree(folder, ignore_errors=True)
        write_skipped(folder, reason, state)
        return folder, {"status": state, "reason": reason, "students": {}}
    students = {}
    with atomic_folder(folder) as temporary:
        for name, file in FILES.items():
            students[name] = _make_student(lessons, name == "student", seed, eisv, temporary / file)
        shutil.copy2(_predictor(), temporary / "student_predictor.py")
        write_json(temporary / "status.json", {"status": "trained", "reason": ""})
    return folder, {"status": "trained", "reason": "", "students": students}


def _teaches(lesson: Lesson) -> bool:
    from tracetune.eisv.answer import fits_pattern, parse_answer

    answer = parse_answer(lesson.answer)
    return answer.in_vocabulary and fits_pattern(answer.eisv_tokens, answer.pattern)


def _predictor() -> Path:
    from tracetune.eisv import student_predictor

    return Path(student_predictor.__file__)


def _make_student(
    lessons: list[Lesson], with_shape: bool, seed: int, eisv: EisvOptions, path: Path
) -> Document:
    from tracetune.eisv.student import load_student, measure_student, train_student, write_student
    from tracetune.errors import GateError

    trained = train_student(lessons, with_shape=with_shape, seed=seed, options=eisv.student)
    write_student(trained, path)
    written = load_student(path)
    for number, lesson in enumerate(lessons):
        shape = lesson.shape if with_shape else None
        ours = written.answer(lesson.numbers, shape, temperature=1.0, seed=number)
        if ours != trained.answer(lesson.numbers, shape, temperature=1.0, seed=number):
            raise GateError(
                "the exported student answers otherwise than scikit-learn",
                where=f"lesson {number}",
                remedy="report it with the versions of the run manifest",
            )
    return {
        **trained.report.model_dump(mode="json"),
        "same_answers": len(lessons),
        "footprint": measure_student(path, lessons).model_dump(mode="json"),
    }


def eisv_student_stage(pipeline: str) -> Pipeline:
    """The teacher ``full`` → ``lessons``, ``student.model``, ``students``.

    Args:
        pipeline: Name of the pipeline.
    """
    return Pipeline(
        [
            Node(
                teach,
                inputs=[
                    *("trajectories", "examples", "splits", "candidates", "base"),
                    *("params:eisv", "params:seed", "params:together", "jobs"),
                ],
                outputs="lessons",
                name="teach",
                tags=["student", "gpu"],
            ),
            Node(
                train_students,
                inputs=["lessons", "candidates", "params:eisv", "params:seed", "work"],
                outputs=["model", "report"],
                name="train_students",
                tags="student",
            ),
        ],
        namespace=f"{pipeline}.student",
        inputs={
            **shared(pipeline, "trajectories", "examples", "splits", "base", "candidates"),
            "jobs": "jobs",
        },
        parameters={"eisv", "seed", "together"},
    )
