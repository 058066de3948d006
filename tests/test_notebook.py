"""The notebooks run from start to end inside Kedro sessions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, Project


@pytest.mark.parametrize(
    ("notebook", "place", "pictures", "words"),
    [
        # The run it looks at is there already; the other one makes runs of its own.
        ("01_telemetry_to_adapter", "finished", 5, ["expected_loss"]),
        ("02_methods", "project", 2, ["dry run: nothing is trained", "insufficient", "turn 2"]),
        (
            "03_review_and_retrain",
            "project",
            1,
            ["candidates wait for people", "not approved and trained on: 0", "real"],
        ),
    ],
)
def test_notebook_runs_and_shows_pictures(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    notebook: str,
    place: str,
    pictures: int,
    words: list[str],
):
    project: Project = request.getfixturevalue(place)
    target = tmp_path / "executed.ipynb"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute"),
            *("--output", str(target), f"notebooks/{notebook}.ipynb"),
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
    drawn = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(drawn) >= pictures
    assert not [output for output in outputs if output["output_type"] == "error"]
    shown = json.dumps(outputs)
    for word in words:
        assert word in shown, f"{word!r} is not shown"


@pytest.mark.parametrize(
    "notebook",
    [
        "01_telemetry_to_adapter",
        "02_methods",
        "03_review_and_retrain",
        "04_cli_model",
        "05_eisv",
        "06_twin",
        "07_heads",
    ],
)
def test_notebook_is_kept_without_outputs(notebook: str):
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]]
