"""``twin`` with backend=together: the same records, one job of SFT, one of DPO on top of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.backends.helpers import MODEL
from tests.backends.together_server import running_server
from tests.project import copy_project
from tracetune.files import read_json
from tracetune.records import Example, Preference
from tracetune.training.model_folder import WEIGHTS

pytestmark = pytest.mark.training

LAYERS = {f"model.layers.0.self_attn.{name}_proj": (64, 64) for name in ("q", "k", "v", "o")}
WHERE = "demo/demo/twin"


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A run that ends while SFT is queued, and the same command on another day."""
    project = copy_project(tmp_path_factory.mktemp("twin") / "project")
    # The sizes of the test environment are steps, which cannot be ordered there.
    (project.path / "conf/test/parameters_twin.yml").unlink()
    (project.path / "conf/test/parameters_together.yml").write_text(
        "together: {poll_seconds: 0.05}\n"
    )
    with running_server(layers=LAYERS, endings=["stuck"]) as server:
        credentials = project.path / "conf/local/credentials.yml"
        credentials.write_text(f"together: {{api_key: {server.key}}}\n")
        params = (
            f"backend=together,base_model.id={MODEL},together.base_url={server.url},"
            "together.wait_minutes="
        )
        first = project.run("--pipeline=twin", params=f"{params}0")
        server.jobs["ft-0001-abcd"].ending = "completed"
        second = project.run("--pipeline=twin", params=f"{params}1")
        yield SimpleNamespace(project=project, server=server, first=first, second=second)


def test_it_waits_and_goes_on_with_dpo_from_the_job_of_sft(days: SimpleNamespace) -> None:
    assert days.first.returncode == 0, days.first.stdout
    assert "Go on kedro run --pipeline=twin" in re.sub(r"\s+", " ", days.first.stdout)
    assert days.second.returncode == 0, days.second.stdout
    sft, dpo = (days.server.jobs[f"ft-000{number}-abcd"].body for number in (1, 2))
    assert len(days.server.jobs) == 2
    assert [body["training_method"]["method"] for body in (sft, dpo)] == ["sft", "dpo"]
    assert dpo["from_checkpoint"] == "ft-0001-abcd"
    assert [body["training_type"]["lora_r"] for body in (sft, dpo)] == [16, 16]
    assert [body["n_epochs"] for body in (sft, dpo)] == [3, 3]
    for stage in ("sft", "dpo", "release"):
        assert (days.project.latest("06_models", f"{stage}/adapter", WHERE) / WEIGHTS).is_file()
    gate = read_json(days.project.latest("08_reporting", "gate.json", WHERE))
    assert gate["status"] == "unjudged"
    assert "base_model.local" in gate["verdict"]


def test_what_is_sent_are_the_rows_of_the_same_split_with_their_system_turns(
    days: SimpleNamespace,
) -> None:
    sft, dpo = (days.server.jobs[f"ft-000{number}-abcd"].body for number in (1, 2))

    def sent(body: dict, name: str) -> list[dict]:
        data = days.server.files[body[name]].data
        return [json.loads(line) for line in data.decode().splitlines()]

    def kept(stage: str, side: str, record: type) -> list:
        path: Path = days.project.latest("05_model_input", f"{stage}/{side}.jsonl", WHERE)
        return [record.model_validate_json(line) for line in path.read_text().splitlines()]

    for side, name in (("train", "training_file"), ("validation", "validation_file")):
        turns, pairs = kept("sft", side, Example), kept("dpo", side, Preference)
        assert [
            [(message["role"], message["content"]) for message in line["messages"]]
            for line in sent(sft, name)
        ] == [[(m.role, m.content) for m in (*row.prompt, *row.completion)] for row in turns]
        assert [line["preferred_output"][0]["content"] for line in sent(dpo, name)] == [
            row.chosen[-1].content for row in pairs
        ]
    systems = [line for line in sent(dpo, "training_file") if line["input"]["messages"]]
    assert any(line["input"]["messages"][0]["role"] == "system" for line in systems)
    weighted = [line["weight"] for line in sent(dpo, "training_file") if "weight" in line]
    assert set(weighted) == {1.2}  # what annoyed counts more
