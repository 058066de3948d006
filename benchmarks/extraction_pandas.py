"""Extraction against a script of pandas: CPU, peak memory, and the same rows to the byte.

    python benchmarks/extraction_pandas.py [--spans 1000000] [--folder DIR]

Both sides read the tables that ``million_spans.py`` generates, each in a process of its own in one
run, and write the keys of all spans, the verdicts and the JSONL of examples, pairs and ratings. The
script is ``extraction_by_hand.py``; our side is what the pipelines run, with their datasets. CPU is
user and system time of the whole process, imports included.

The exit status says whether the limits were kept: CPU at most 1.3 times and memory at most 0.7
times that of the script, every row equal. With fewer than a million spans the imports of our side
weigh more than the tables.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import extraction_by_hand
from million_spans import KINDS, Laps, extract, generate

CPU_LIMIT = 1.3
MEMORY_LIMIT = 0.7


def ours(folder: Path) -> dict[str, Any]:
    lap = Laps()
    rows, sessions = extract(folder, lap)
    drops = {step.reason: step.dropped for step in rows.funnel.steps}
    return {
        "drops": drops,
        "sessions": sessions,
        "redacted": rows.privacy.found,
        "steps": lap.steps,
    }


_SIDES = {"ours": ours, "pandas": extraction_by_hand.extract}


def measured(side: str, folder: Path) -> dict[str, Any]:
    """Runs one side in a fresh process: CPU seconds, peak memory, what it found, its files."""
    out = folder / side
    out.mkdir(exist_ok=True)
    for name in ("spans.parquet", "annotations.parquet"):
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to((folder / name).resolve())
    child = subprocess.Popen([sys.executable, __file__, "--folder", out, "--step", side])
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{side} ended with {child.returncode}")
    return {
        **json.loads((out / "result.json").read_text()),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": usage.ru_maxrss * 1024 // 1_000_000,
        "rows": {kind: digest(out / f"{kind}.jsonl") for kind in KINDS},
    }


def digest(path: Path) -> tuple[int, str]:
    """Number of rows of a file and a hash over all its bytes."""
    with path.open("rb") as handle:
        lines = sum(1 for _ in handle)
        handle.seek(0)
        return lines, hashlib.file_digest(handle, "sha256").hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the tables go; default: a temporary one")
    parser.add_argument("--step", choices=["ours", "pandas", "generate"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step == "generate":
        generate(arguments.folder, arguments.spans)
        return 0
    if arguments.step:
        found = _SIDES[arguments.step](arguments.folder)
        (arguments.folder / "result.json").write_text(json.dumps(found))
        return 0

    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        common = [sys.executable, __file__, "--folder", folder, "--spans", str(arguments.spans)]
        subprocess.run([*common, "--step", "generate"], check=True)
        one, other = measured("ours", folder), measured("pandas", folder)
    return report(one, other)


def report(one: dict[str, Any], other: dict[str, Any]) -> int:
    for name, side in (("tracetune", one), ("pandas", other)):
        counts = {kind: rows for kind, (rows, _) in side["rows"].items()}
        print(f"{name}: {side['cpu_s']} s CPU, peak {side['peak_mb']} MB, rows {counts}")
    failures = []
    for what in ("rows", "sessions", "redacted"):
        if one[what] != other[what]:
            failures.append(f"{what} differ: {one[what]!s:.300} and {other[what]!s:.300}")
    left, right = (+Counter(side["drops"]) for side in (one, other))
    if left != right:
        failures.append(f"dropped spans differ: {left} and {right}")
    for name, key, limit in (("CPU", "cpu_s", CPU_LIMIT), ("memory", "peak_mb", MEMORY_LIMIT)):
        ratio = one[key] / other[key]
        print(f"{name} ratio {ratio:.2f}, limit {limit}")
        if ratio > limit:
            failures.append(f"{name} ratio {ratio:.2f} is over {limit}")
    print("kept: every row equal" if not failures else "BROKEN: " + "; ".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
