"""Latency of one answer of an exported model of a command-line program, once it is loaded.

Run, after ``kedro run --pipeline=cli --params=name=gh``:
``.venv/bin/python benchmarks/ask_latency.py --name gh``. Every held-out request is answered under
the grammar of the schema, as ``kedro ask`` does, and again; p50 and p99 are over all answers
(target: p99 under 50 ms for the embedded model on 2 cores).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from tracetune.ask import Interpreter
from tracetune.cli_schema.load import load_schema

PROJECT = Path(__file__).resolve().parent.parent


def newest(pattern: str) -> Path:
    """The newest version that fits the pattern below ``data``."""
    return max((PROJECT / "data").glob(pattern))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--name", default="demo")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    place = f"{given.tenant}/{given.name}/cli"
    model = newest(f"06_models/{place}/export/model/*/model/*.gguf").parent
    test = newest(f"05_model_input/{place}/test.jsonl/*/test.jsonl").read_text(encoding="utf-8")
    schema = load_schema(PROJECT / f"data/01_raw/{given.tenant}/cli/{given.name}.yaml")
    requests = [json.loads(line)["prompt"][-1]["content"] for line in test.splitlines()]
    with Interpreter(model, schema, threads=given.threads) as interpreter:
        interpreter.ask(requests[0])
        times = [
            interpreter.ask(request).latency_ms
            for _ in range(given.repeats)
            for request in requests
        ]
    cut = statistics.quantiles(times, n=100, method="inclusive")
    print(
        f"{len(times)} answers, {given.threads or 'default'} threads: p50 {cut[49]:.1f} ms, "
        f"p99 {cut[98]:.1f} ms, slowest {max(times):.1f} ms"
    )


if __name__ == "__main__":
    main()
