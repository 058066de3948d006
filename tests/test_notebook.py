"""The notebook runs from start to end inside a Kedro session."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.project import Project


def test_notebook_runs_and_shows_pictures(finished: Project):
    target = finished.path / "executed.ipynb"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute"),
            *("--output", str(target), "notebooks/01_telemetry_to_adapter.ipynb"),
        ],
        cwd=finished.path,
        env={**finished.environment(), "KEDRO_ENV": "test"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads(target.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    pictures = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(pictures) >= 5
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert "expected_loss" in json.dumps(outputs), "the invariants of step 0 are not shown"
