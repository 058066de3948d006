"""Requests, options and runs that the tests of the Anthropic provider share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.llm.anthropic_server import Server
from tests.project import ROOT
from tracetune.llm import LlmOptions, Spending, TextRequest, TextResult, spent
from tracetune.llm.anthropic_writer import AnthropicWriter


def fixed(**fields: Any) -> dict[str, Any]:
    """An object with exactly these fields."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


SCHEMA = fixed(
    items={
        "type": "array",
        "minItems": 1,
        "items": fixed(
            request={"type": "string", "minLength": 1},
            output=fixed(agent={"type": "string", "enum": ["hr", "travel"]}),
        ),
    }
)


def ask(count: int = 3, first: int = 0, **fields: Any) -> list[TextRequest]:
    """Requests that differ in id and prompt."""
    base = {"system": "You write messages.", "answer_schema": SCHEMA}
    return [
        TextRequest(
            **{
                "id": f"r{n}",
                "prompt": f"Write 2 messages whose right output names hr. Number {n}.",
                **base,
                **fields,
            }
        )
        for n in range(first, first + count)
    ]


def options(server: Server | str, mode: str = "batch", **changes: Any) -> LlmOptions:
    """Options for a server, with short waits."""
    url = server if isinstance(server, str) else server.url
    given = {"provider": "anthropic", "base_url": url, "mode": mode, "poll_seconds": 0.03}
    return LlmOptions(**{**given, "timeout": 5.0, **changes})


def run(
    server: Server,
    folder: Path,
    requests: list[TextRequest] | None = None,
    mode: str = "batch",
    **changes: Any,
) -> list[TextResult]:
    """Writes the requests."""
    writer = AnthropicWriter(options(server, mode, **changes), folder, server.key)
    return writer.write(ask() if requests is None else requests)


def outcomes(results: list[TextResult]) -> list[str]:
    """Their outcomes."""
    return [result.outcome for result in results]


def entries(folder: Path) -> list[dict[str, Any]]:
    """The lines of the ledger."""
    lines = (folder / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def spending(folder: Path) -> Spending:
    """What was spent."""
    return spent(folder)


def start(server: Server, folder: Path, mode: str, **how: Any) -> subprocess.Popen[str]:
    """A process of its own that writes ``ask(count)``; see :mod:`tests.llm.driver`."""
    job = {"url": server.url, "key": server.key, "folder": str(folder), "mode": mode, **how}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.llm.driver", json.dumps(job)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_when_held(server: Server, process: subprocess.Popen[str]) -> None:
    """kill -9 as soon as the server holds a call; then lets the call go."""
    assert server.held.wait(30), process.kill() or process.communicate()[0]
    process.kill()
    process.communicate()
    server.release.set()
    server.held.clear()
