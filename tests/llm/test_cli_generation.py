"""Examples of ``cli`` from a paid writer: asked for anew on demand, and never paid twice."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.llm.anthropic_answers import prompt_of
from tests.llm.helpers import options
from tracetune.cli_schema.cli_options import CliOptions
from tracetune.cli_schema.load import parse_schema
from tracetune.datasets.llm_dataset import LlmAccess
from tracetune.errors import ConfigurationError
from tracetune.pipelines.cli_generation_stage import write_examples
from tracetune.review.places import run_command

SHIP = parse_schema(
    """
cli_name: ship
description: Tends a starship
commands:
  - {name: hum, description: Make the ship hum}
  - {name: glow, description: Make the ship glow}
"""
)
SHARES = {"with_context": 0, "without_context": 1, "clarification": 0}
COUNT = {"num_examples": 24, "per_request": 2, "shares": SHARES}
WORDS = ("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island")


def examples() -> Callable[[dict[str, Any]], Any]:
    """Valid examples, all different; one of two is left out, so that a second round is needed."""
    number = itertools.count(1)

    def answer(params: dict[str, Any]) -> Any:
        prompt = prompt_of(params)
        count, target = (
            int(re.findall(r"Write (\d+)", prompt)[0]),
            re.findall(r'"(\w+)"', prompt)[0],
        )
        found = []
        for _ in range(max(1, count // 2)):
            drawn = next(number)
            said = [WORDS[drawn // len(WORDS) ** place % len(WORDS)] for place in range(3)]
            item = {"request": f"{target} {' '.join(said)}", "context": None, "command": target}
            found.append(item | {"subcommand": None, "args": [], "flags": []})
        return {"items": found}

    return answer


def generation(server: Any, folder: Path, *, force: bool) -> dict[str, Any]:
    """The report of one run."""
    chosen = CliOptions.model_validate({"generation": {**COUNT, "force": force}})
    access = LlmAccess(folder, server.key_of_client)
    *_, report = write_examples(
        SHIP, access, options(server, "direct", concurrency=1), chosen, 3, False
    )
    return report


@pytest.mark.parametrize("answered", [1, 5, 13, 15])
def test_a_forced_generation_that_was_interrupted_goes_on_and_pays_nothing_twice(
    server, tmp_path, answered
):
    """In the first round (of 12 requests) and in a later one."""
    server.answer, server.key_of_client = examples(), server.key
    first = generation(server, tmp_path, force=False)
    assert (first["attempt"], first["examples"], first["rounds"] > 1) == (0, 24, True)
    before = len(server.sent)
    assert before == first["requests"]

    whole, left = server.answer, itertools.count(answered, -1)

    def breaking(params: dict[str, Any]) -> Any:
        if next(left) == 1:
            server.key = "another"  # from now on the service takes no more requests
        return whole(params)

    server.answer = breaking
    with pytest.raises(ConfigurationError):
        generation(server, tmp_path, force=True)
    assert len(server.sent) == before + answered

    server.key, server.answer = server.key_of_client, whole
    again = generation(server, tmp_path, force=True)
    assert (again["attempt"], again["examples"]) == (1, 24)
    assert len(server.sent) == before + again["requests"]
    hashes = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    replies = [entry["hash"] for entry in hashes if entry["kind"] == "reply"]
    assert len(set(replies)) == len(replies) == len(server.sent)

    # Without force it is taken from what is kept; with it, now that it is complete, it begins anew.
    assert generation(server, tmp_path, force=False)["attempt"] == 1
    assert len(server.sent) == before + again["requests"]
    assert generation(server, tmp_path, force=True)["attempt"] == 2


def test_the_command_that_goes_on_does_not_ask_for_everything_anew():
    given = {"name": "gh", "cli": {"generation": {"force": True, "num_examples": 9}}}
    shown = run_command("cli", given)
    assert shown == "kedro run --pipeline=cli --params=name=gh,cli.generation.num_examples=9"
    assert run_command("cli", {"cli.generation.force": True}) == "kedro run --pipeline=cli"
