"""``eisv``: from recorded states to judged teachers and students, with the real command."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.eisv import test_published as published
from tests.eisv.databases import database
from tests.project import EMBEDDED, Project, copy_project
from tracetune.eisv.eisv_options import EisvOptions
from tracetune.eisv.expression import ExpressionGenerator
from tracetune.eisv.judge import BASELINE_DRAWS, Answered
from tracetune.eisv.prompt import VARIANTS, answer_text, numbers_of
from tracetune.eisv.student import Lesson
from tracetune.eisv.synthetic import generate
from tracetune.eisv.vocabulary import SHAPES
from tracetune.pipelines.eisv_student_stage import train_students
from tracetune.records import EisvTrajectory, Example
from tracetune.splits import SplitManifest, verify

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def lumen(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which ``eisv`` ran to its end in the test environment. Do not change it."""
    project = copy_project(tmp_path_factory.mktemp("lumen") / "project", finished.path / EMBEDDED)
    result = project.run("--pipeline=eisv")
    (project.path / "console.txt").write_text(result.stdout)
    assert result.returncode == 0, result.stdout
    return project


def latest(project: Project, layer: str, dataset: str, name: str = "demo") -> Path:
    return project.latest(layer, dataset, f"demo/{name}/eisv")


def document(project: Project, layer: str, dataset: str, name: str = "demo") -> Any:
    return json.loads(latest(project, layer, dataset, name).read_text())


def rows(project: Project, layer: str, dataset: str, record: type) -> list[Any]:
    lines = latest(project, layer, dataset).read_text().splitlines()
    return [record.model_validate_json(line) for line in lines]


def test_one_manifest_divides_windows_and_rows_of_all_variants(lumen):
    windows = rows(lumen, "03_primary", "trajectories.jsonl", EisvTrajectory)
    examples = rows(lumen, "04_feature", "examples.jsonl", Example)
    splits = SplitManifest.model_validate(document(lumen, "05_model_input", "splits.json"))
    verify(splits, [*windows, *examples])
    assert splits.method == "block"
    assert len(examples) == len(VARIANTS) * len(windows)
    by_window: dict[str, set[str]] = {}
    answers: dict[str, set[str]] = {}
    for row in examples:
        window = row.provenance.ids["trajectory"]
        by_window.setdefault(window, {splits.place(window).split}).add(splits.place(row.id).split)
        answers.setdefault(window, set()).add(row.completion[0].content)
        assert ("shape:" in row.prompt[1].content) == (row.tags["variant"] == "full")
    assert {len(sides) for sides in by_window.values()} == {1}
    assert {len(given) for given in answers.values()} == {1}  # all teachers learn the same
    for variant in VARIANTS:
        train = rows(lumen, "05_model_input", f"{variant}/train.jsonl", Example)
        assert {row.tags["variant"] for row in train} == {variant}
        assert {splits.place(row.id).split for row in train} == {"train"}


def test_windows_and_origins_are_told(lumen):
    windows = document(lumen, "08_reporting", "windows.json")
    assert windows["states"]["read"] > 4000
    assert windows["gaps"] > 0
    assert windows["windows"]["impossible"]
    mix = document(lumen, "08_reporting", "mix.json")
    assert all(sum(found.values()) >= 12 for found in mix["shapes"].values())
    found = {row.origin for row in rows(lumen, "03_primary", "trajectories.jsonl", EisvTrajectory)}
    assert found == {"lumen_real", "synthetic"}


def test_everybody_answers_the_same_windows_at_named_temperatures(lumen):
    found = rows(lumen, "07_model_output", "predictions.jsonl", Answered)
    splits = SplitManifest.model_validate(document(lumen, "05_model_input", "splits.json"))
    held = {
        i for i, place in splits.rows.items() if i.startswith("eisv-") and place.split == "test"
    }
    parts: dict[tuple[str, str, float], list[Answered]] = {}
    for row in found:
        parts.setdefault((row.model, row.variant, row.temperature), []).append(row)
    for model in ("base", "teacher"):
        for variant in VARIANTS:
            for temperature in (1.0, 0.3, 0.0):
                assert {row.window for row in parts[model, variant, temperature]} == held
    assert len(parts["lookup_table", "none", 1.0]) == BASELINE_DRAWS * len(held)


def test_both_gates_are_judged_and_the_table_of_nine_lines_passes_gate_1(lumen):
    metrics = document(lumen, "08_reporting", "metrics.json")
    verdicts = {
        (one["model"], one["variant"], one["temperature"]): verdict
        for one, verdict in zip(metrics["scores"], metrics["gate1"], strict=True)
    }
    assert verdicts["lookup_table", "none", 1.0]["passed"]
    assert verdicts["shape_matched", "none", 1.0]["passed"]
    assert not verdicts["random", "none", 1.0]["passed"]
    assert not metrics["honest"]["verdict"]["passed"]
    assert {trial["variant"] for trial in metrics["honest"]["trials"]} == set(VARIANTS[1:])
    for name, wanted in {"random": 0.26, "rules": 0.50, "rules_feedback": 0.93}.items():
        assert metrics["published"][name] == pytest.approx(wanted, abs=0.015)
    gate = document(lumen, "08_reporting", "gate.json")
    assert gate["status"] == "judged"
    assert not gate["promote"]
    checks = {check["name"]: check for check in gate["checks"]}
    assert list(checks) == [
        *("gate_1_coherence", "gate_1_valid_rate", "honest_gate_gain", "honest_gate_difference")
    ]
    # The numbers that decide: lower ends of the trial without shape and duration at temperature 1.
    (deciding,) = [
        trial
        for trial in metrics["honest"]["trials"]
        if (trial["variant"], trial["temperature"]) == (VARIANTS[-1], 1.0)
    ]
    for name, limit in (("gain", 0.0), ("difference", -0.10)):
        check = checks[f"honest_gate_{name}"]
        assert (check["value"], check["limit"]) == (deciding[name]["low"], limit)
        assert check["passed"] == (check["value"] > limit)


def test_report_says_what_each_gate_shows_and_what_not(lumen):
    page = latest(lumen, "08_reporting", "report.html").read_text()
    for words in (
        "What Gate 1 shows:",
        "a table of nine lines passes",
        "What the honest gate shows:",
        "Honest gate: is the shape recognised from the numbers alone?",
        "What needs no model",
        "without shape and duration, T = 1",
        "greedy",
        "What the figures do not show",
        "windows with",
    ):
        assert words in page, words
    assert "right and wrong" not in page  # the words of McNemar's test do not belong here
    for figure in ("shapes", "confusion", "coherence", "tokens"):
        drawn = document(lumen, "08_reporting", f"figures/{figure}.json")
        assert drawn["data"], figure
    console = (lumen.path / "console.txt").read_text()
    assert "Gate 1 passed" in console
    assert "Verdict" in console


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("lookup_table-none-t1", 0, "Gate 1          passed"),
        ("random-none-t1", 1, "is not above 0.933"),
        ("teacher-full-t0.3", 1, "valid rate"),
    ],
)
def test_gate1_command_reads_the_documents_of_a_run(lumen, name, code, words):
    path = latest(lumen, "08_reporting", "gate1") / f"{name}.json"
    result = lumen.kedro("eisv", "gate1", str(path))
    assert result.returncode == code, result.stdout
    assert words in result.stdout
    assert "Does not show" in result.stdout


def test_gate1_command_refuses_what_is_no_results_document(lumen, tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"mean_coherence": NaN}')
    for path, words in ((wrong, str(wrong)), (tmp_path / "missing.json", "cannot be read")):
        result = lumen.kedro("eisv", "gate1", str(path))
        assert result.returncode == 1
        assert words in " ".join(result.stdout.split())
        assert "Traceback" not in result.stdout
    help_text = " ".join(lumen.kedro("eisv", "gate1", "--help").stdout.split())
    assert "exit code 0 if it does" in help_text


def executed(project: Project, name: str, target: Path) -> tuple[list[Any], str]:
    """Outputs of the notebook on the run of that name, and what it printed."""
    notebook = project.path / "notebooks" / f"05_{name}.ipynb"
    text = (project.path / "notebooks/05_eisv.ipynb").read_text()
    assert text.count(r"name = \"demo\"") == 1
    notebook.write_text(text.replace(r"name = \"demo\"", rf"name = \"{name}\""))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute"),
            *("--output", str(target), str(notebook)),
        ],
        cwd=project.path,
        env={**project.environment(), "KEDRO_ENV": "test"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads(target.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    drawn = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(drawn) == 4
    return outputs, "".join("".join(output.get("text", [])) for output in outputs)


def test_notebook_looks_at_the_finished_run(lumen, tmp_path):
    outputs, printed = executed(lumen, "demo", tmp_path / "executed.ipynb")
    for words in (
        "measured states on two sides: 0",
        "--- no_shape_no_duration",
        "What passing gate 1 shows:",
        "What passing honest gate shows:",
        "no student: the teacher gave no usable answer",
    ):
        assert words in printed, words
    assert "lookup_table" in json.dumps(outputs)


def test_release_is_the_teacher_that_reads_everything(lumen):
    folder = latest(lumen, "06_models", "release/adapter")
    serving = json.loads((folder / "serving.json").read_text())
    assert serving["output"] == {"compare": "eisv"}
    assert "EISV_TOKENS:" in serving["instruction"]
    assert serving["max_new_tokens"] == 8
    assert json.loads((folder / "gate.json").read_text())["status"] == "judged"
    for variant in VARIANTS:
        assert (latest(lumen, "06_models", f"{variant}/adapter") / "manifest.json").is_file()


def test_a_second_run_makes_the_same_rows_and_answers(lumen, tmp_path):
    other = copy_project(tmp_path / "other", lumen.path / EMBEDDED)
    result = other.run("--pipeline=eisv", params="eisv.variants=[full]")
    assert result.returncode == 0, result.stdout
    for layer, dataset in (
        ("03_primary", "trajectories.jsonl"),
        ("04_feature", "examples.jsonl"),
        ("05_model_input", "splits.json"),
        ("05_model_input", "full/train.jsonl"),
    ):
        assert latest(other, layer, dataset).read_bytes() == (
            latest(lumen, layer, dataset).read_bytes()
        ), dataset
    ours = rows(other, "07_model_output", "predictions.jsonl", Answered)
    theirs = rows(lumen, "07_model_output", "predictions.jsonl", Answered)
    # One teacher instead of three: what it answers stays, the others are missing.
    assert ours == [row for row in theirs if row.variant in ("none", "full")]
    plan = document(other, "05_model_input", "no_shape/plan.json")
    assert not plan["train"]
    assert "eisv.variants" in plan["reason"]


TRAINED = {
    **{"judged": "full", "status": "trained", "reason": "", "unasked": ""},
    "adapters": {"full": "anywhere"},
}


def lessons(n: int = 40) -> list[Lesson]:
    """Answers of the rules to generated windows, in place of a teacher's."""
    found = []
    for number, shape in enumerate(shape for shape in SHAPES for _ in range(n)):
        said = ExpressionGenerator(number).generate(shape)
        numbers = numbers_of([generate(shape, seed=number)])[0].tolist()
        answer = answer_text(said.tokens, said.lumen, said.pattern)
        found.append(Lesson(numbers=numbers, shape=shape, answer=answer))
    return found


def test_students_answer_alone_with_nothing_but_the_standard_library(tmp_path):
    taught = lessons()
    folder, report = train_students(taught, TRAINED, EisvOptions(), 3, tmp_path / "work")
    assert {path.name for path in folder.iterdir()} == {
        *("student.json", "student_numbers.json", "student_predictor.py", "status.json")
    }
    assert report["students"]["student"]["same_answers"] == len(taught)
    states = [{"t": float(i), "E": 0.7, "I": 0.6, "S": 0.1 + 0.04 * i, "V": 0.1} for i in range(20)]
    code = (
        "import sys, json; sys.path.insert(0, '.')\n"
        "from student_predictor import Student\n"
        "states = json.loads(sys.argv[1])\n"
        "print(Student.load('student.json').answer_states(states, shape='rising_entropy').text)\n"
        "print(Student.load('student_numbers.json').answer_states(states).text)\n"
        "assert not {'numpy', 'sklearn', 'tracetune'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, json.dumps(states)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("EISV_TOKENS: ~") == 2


def test_without_a_usable_answer_there_is_no_student_and_a_reason(tmp_path):
    wrong = [lesson.model_copy(update={"answer": "hello"}) for lesson in lessons(1)]
    folder, report = train_students(wrong, TRAINED, EisvOptions(), 3, tmp_path / "work")
    assert report["status"] == "insufficient"
    assert "no usable answer" in report["reason"]
    assert [path.name for path in folder.iterdir()] == ["status.json"]


@pytest.mark.parametrize(
    ("source", "told", "printed"),
    [
        ("none", "all windows are generated", "measured states 0, gaps 0"),
        ("published", "30 windows of 4 states from 30 of the published", "measured states 120"),
    ],
)
def test_a_dry_run_trains_nothing_and_still_shows_what_needs_no_model(
    lumen, tmp_path, source, told, printed
):
    name = f"dry-{source}"
    made = (published.flat, published.falling)
    windows = [published.row(made[i % 2](10.0 * i)) for i in range(30)]
    published.table(lumen.path / f"data/01_raw/demo/eisv/{name}.parquet", *windows)
    params = f"name={name},eisv.data.source={source},dry_run=true"
    result = lumen.run("--pipeline=eisv", params=params)
    assert result.returncode == 0, result.stdout
    assert "Not judged: dry run" in result.stdout
    gate = document(lumen, "08_reporting", "gate.json", name)
    assert gate["status"] == "unjudged"
    metrics = document(lumen, "08_reporting", "metrics.json", name)
    assert {one["model"] for one in metrics["scores"]} >= {"lookup_table", "random"}
    page = latest(lumen, "08_reporting", "report.html", name).read_text()
    assert "table of nine lines" in page
    assert told in page
    assert "would take about" in result.stdout
    assert document(lumen, "05_model_input", "full/plan.json", name)["estimate"]["steps"] == 3
    report = document(lumen, "08_reporting", "windows.json", name)
    assert set(report) >= set(document(lumen, "08_reporting", "windows.json"))
    assert printed in executed(lumen, name, tmp_path / "executed.ipynb")[1]


def test_the_text_format_is_made_as_the_page_says(lumen, tmp_path, monkeypatch):
    page = (lumen.path / "docs/eisv.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if "text_row" in block]
    monkeypatch.chdir(tmp_path)
    exec(code.replace("data/04_feature", f"{lumen.path}/data/test/04_feature"), {})
    made = [json.loads(line) for line in (tmp_path / "eisv-text.jsonl").open()]
    assert len(made) == len(rows(lumen, "04_feature", "examples.jsonl", Example))
    assert {tuple(one) for one in made} == {("text", "shape", "pattern", "messages")}


@pytest.mark.parametrize("windows", [4, 2])
def test_too_few_windows_are_a_result(lumen, windows):
    name = f"few{windows}"
    params = f"name={name},eisv.data.source=none,eisv.data.mix.min_per_shape={windows}"
    result = lumen.run("--pipeline=eisv", params=params)
    assert result.returncode == 0, result.stdout
    for stage in ("release/adapter", "student/model"):
        status = json.loads((latest(lumen, "06_models", stage, name) / "status.json").read_text())
        assert status["status"] == "insufficient"
        assert "too little to train on" in status["reason"]
    assert document(lumen, "08_reporting", "gate.json", name)["status"] == "unjudged"
    metrics = document(lumen, "08_reporting", "metrics.json", name)
    assert metrics["status"] == "unjudged"
    assert "too little to train on" in metrics["reason"]
    # Of two windows of a shape none is held out, so nothing is asked and there is no bar.
    assert (metrics["n"] == 0, metrics["classified"] == {}) == (windows == 2, windows == 2)
    assert "Not judged" in latest(lumen, "08_reporting", "report.html", name).read_text()


def corrupt(path: Path) -> None:
    database(path, states(400))
    content = bytearray(path.read_bytes())
    content[4096 : 4096 + 2000] = b"x" * 2000
    path.write_bytes(bytes(content))


def states(n: int) -> list[tuple[str, float, float, float, float]]:
    return [
        (f"2026-05-01T00:{i // 60:02}:{i % 60:02}", 0.5, 0.5, 0.8, 0.9) for i in range(min(n, 3600))
    ]


def other_tables(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE something_else (id INTEGER PRIMARY KEY)")


def no_number(path: Path) -> None:
    found: list[Any] = states(40)
    found[6] = ("2026-05-01T00:00:06", float("nan"), 0.5, 0.8, 0.9)
    database(path, found)


@pytest.mark.parametrize(
    ("write", "params", "words"),
    [
        (corrupt, "", "is not a database or is broken"),
        (lambda path: path.write_text("no database"), "", "does not begin like an SQLite"),
        (other_tables, "", "no such table"),
        (no_number, "", "no finite number: id 7"),
        (lambda path: None, "", "there is no such database"),
        (lambda path: None, "eisv.data.source=published", "there is no such table"),
        (lambda path: None, "eisv.data.windows.size=1", "greater than or equal to 2"),
        (lambda path: None, "eisv.variants=[no_shape]", "it is released and teaches"),
        (lambda path: None, "eisv.data.source=moon", "'anima', 'published' or 'none'"),
    ],
)
def test_what_cannot_be_used_stops_the_run_with_one_message(lumen, write, params, words):
    path = lumen.path / "data/01_raw/demo/eisv/bad.db"
    path.unlink(missing_ok=True)
    write(path)
    result = lumen.run("--pipeline=eisv", params=",".join(filter(None, ["name=bad", params])))
    assert result.returncode == 1
    assert words in " ".join(result.stdout.split()), result.stdout
    assert "Traceback" not in result.stdout
    assert not list((lumen.path / "data/test/03_primary/demo/bad").rglob("*.jsonl"))


def test_a_locked_database_stops_the_run(lumen):
    path = lumen.path / "data/01_raw/demo/eisv/locked.db"
    database(path, states(40))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        result = lumen.run("--pipeline=eisv", params="name=locked")
    assert result.returncode == 1
    assert "another program has locked the database" in " ".join(result.stdout.split())
