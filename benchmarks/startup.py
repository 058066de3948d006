"""Start-up: ``kedro registry list`` here against the same in an empty Kedro project.

Run: ``.venv/bin/python benchmarks/startup.py``. The two commands alternate, so that a busy machine
slows both; the ratio of the medians is what counts (target: at most 1.5).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 7
PROJECT = Path(__file__).resolve().parent.parent
KEDRO = [sys.executable, "-m", "kedro"]
ENVIRONMENT = {**os.environ, "DO_NOT_TRACK": "1", "KEDRO_DISABLE_TELEMETRY": "1"}


def seconds(folder: Path) -> float:
    """Wall time of one ``kedro registry list`` in ``folder``."""
    start = time.perf_counter()
    subprocess.run(
        [*KEDRO, "registry", "list"], cwd=folder, check=True, capture_output=True, env=ENVIRONMENT
    )
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [*KEDRO, "new", "--name=empty", "--tools=none", "--example=n", "--telemetry=no"],
            cwd=folder,
            check=True,
            capture_output=True,
            env=ENVIRONMENT,
        )
        empty = Path(folder) / "empty"
        seconds(empty), seconds(PROJECT)  # warm file caches and byte code
        pairs = [(seconds(empty), seconds(PROJECT)) for _ in range(ROUNDS)]
    nothing, here = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"empty project {nothing:.2f} s, tracetune {here:.2f} s, ratio {here / nothing:.2f}")


if __name__ == "__main__":
    main()
