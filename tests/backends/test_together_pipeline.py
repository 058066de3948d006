"""``kedro run`` with backend=together over several days: prices, waiting, training, judgement.

The hosted base has no copy on this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import safe_open

from tests.backends.helpers import MODEL
from tests.backends.together_server import running_server
from tests.project import Project, copy_project
from tracetune.files import read_json
from tracetune.training.model_folder import WEIGHTS

pytestmark = pytest.mark.training

FEW_STEPS = "max_steps: 5, per_device_train_batch_size: 4"
ONE_EPOCH = "num_train_epochs: 1, per_device_train_batch_size: 8"
LAYERS = {f"model.layers.0.self_attn.{name}_proj": (64, 64) for name in ("q", "k", "v", "o")}


def words(text: str) -> str:
    """Console output with every run of blanks and line ends as one blank."""
    return re.sub(r"\s+", " ", text)


def status(project: Project, stage: str) -> dict[str, str]:
    return read_json(project.latest("06_models", f"{stage}/adapter") / "status.json")


def gate(project: Project) -> dict[str, str]:
    return read_json(project.latest("08_reporting", "gate.json"))


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """What every step of the story printed, and what the server had seen by then."""
    project = copy_project(tmp_path_factory.mktemp("hosted") / "project")
    sizes = project.path / "conf/test/parameters_training.yml"
    sizes.write_text(sizes.read_text().replace(FEW_STEPS, ONE_EPOCH))
    (project.path / "conf/test/parameters_together.yml").write_text(
        "together: {poll_seconds: 0.05, endpoint_minutes: 5}\n"
    )
    with running_server(layers=LAYERS, endings=["stuck"], project="proj-1") as server:
        server.hosting.reply = lambda model, messages: '{"agent": "billing"}'
        params = (
            f"backend=together,base_model.id={MODEL},together.base_url={server.url},"
            "together.wait_minutes=0"
        )
        day = SimpleNamespace(project=project, server=server, params=params)
        day.dry = project.run("--pipeline=dpo", params=f"{params},dry_run=true")
        day.dry_calls = list(server.calls)
        day.credentials = project.path / "conf/local/credentials.yml"
        day.credentials.write_text(f"together: {{api_key: {server.key}}}\n")
        day.first = project.run("--pipeline=dpo", params=params)
        day.first_states = [status(project, stage)["status"] for stage in ("sft", "dpo", "release")]
        server.jobs["ft-0001-abcd"].ending = "completed"
        day.waited = project.kedro("jobs", "wait", "ft-0001", "--env=test")
        patient = params.replace("minutes=0", "minutes=1")
        day.second = project.run("--pipeline=dpo", params=patient)
        day.unjudged = gate(project)
        day.export = project.run("--pipeline=export", params="export.from=dpo")
        day.third = project.run("--pipeline=dpo", params=f"{patient},together.judge_on=endpoint")
        day.cleanup = project.kedro("jobs", "cleanup", "--env=test")
        yield day


def test_a_dry_run_shows_prices_and_asks_nobody(days: SimpleNamespace) -> None:
    assert days.dry.returncode == 0, days.dry.stdout
    assert days.dry_calls == []
    text = words(days.dry.stdout)
    for stage in ("SFT", "DPO"):
        assert re.search(rf"{stage} at Together AI \({MODEL}\): 1 epoch x [\d,]+ tokens", text)
    assert re.search(r"\(estimated from bytes\), \$\d\.\d\d to \$\d\.\d\d\.", text)
    assert "by the rates of 2026-05-08" in text
    assert "Budget: $10.00 (together.budget_usd), $0.00 of it spent or reserved" in text
    assert "s on this machine" not in text


def test_a_run_that_waits_and_goes_on(days: SimpleNamespace) -> None:
    assert days.first.returncode == 0, days.first.stdout
    text = words(days.first.stdout)
    assert "kedro jobs wait ft-0001-abcd --tenant=demo --name=demo" in text
    assert text.count("Waiting") == 1
    assert f"Go on kedro run --pipeline=dpo --env=test --params={days.params}" in text
    assert days.first_states == ["waiting"] * 3
    assert "ft-0001-abcd is completed ($1.20)" in days.waited.stdout
    assert days.second.returncode == 0, days.second.stdout
    project, server = days.project, days.server
    assert [status(project, stage)["status"] for stage in ("sft", "dpo")] == ["trained"] * 2
    assert len(server.jobs) == 2
    assert server.jobs["ft-0002-abcd"].body["from_checkpoint"] == "ft-0001-abcd"


def test_what_nobody_knows_of_a_hosted_base_is_unknown(days: SimpleNamespace) -> None:
    base = read_json(days.project.latest("06_models", "base.json"))
    assert (base["kind"], base["path"], base["hosted"]) == ("hosted", "", MODEL)
    hashes = [base[f"{part}_sha256"] for part in ("weights", "tokenizer", "template")]
    assert hashes == ["unknown"] * 3
    adapter = days.project.latest("06_models", "release/adapter")
    manifest = read_json(adapter / "manifest.json")
    assert manifest["base"]["weights_sha256"] == "unknown"
    assert manifest["vllm"]["serves"] is None
    with safe_open(adapter / WEIGHTS, framework="numpy") as tensors:
        assert len(list(tensors.keys())) == 2 * len(LAYERS)
    preflight = read_json(days.project.latest("08_reporting", "sft/preflight.json"))
    assert (preflight["counted_by"], preflight["end_untrained"]) == ("bytes", None)
    assert "tokens are estimated from bytes" in preflight["gates"][-1]["text"]


def test_without_a_copy_the_adapter_is_released_unjudged(days: SimpleNamespace) -> None:
    assert days.unjudged["status"] == "unjudged"
    for part in (f"the weights of {MODEL} are not on this machine", "base_model.local", "judge_on"):
        assert part in days.unjudged["verdict"]
    assert status(days.project, "release")["status"] == "trained"
    assert days.export.returncode != 0
    text = words(days.export.stdout)
    assert f"the weights of its base {MODEL} are not on this machine" in text
    assert "base_model.local" in text


def test_an_endpoint_judges_and_is_gone(days: SimpleNamespace) -> None:
    assert days.third.returncode == 0, days.third.stdout
    hosting = days.server.hosting
    assert (hosting.endpoints, hosting.billed()) == ({}, 0)
    assert (hosting.created, hosting.deployments) == (1, 3)
    assert "no endpoint is open" in days.cleanup.stdout
    assert len(days.server.jobs) == 2
    assert gate(days.project)["status"] == "judged"
    metrics = read_json(days.project.latest("08_reporting", "metrics.json"))
    assert metrics["models"]["dpo"]["mean_confidence"] is None


def test_the_key_is_written_nowhere(days: SimpleNamespace) -> None:
    secret = days.server.key.encode()
    written = [
        path
        for path in Path(days.project.path).rglob("*")
        if path.is_file() and path != days.credentials and secret in path.read_bytes()
    ]
    assert written == []
    for shown in (days.first, days.second, days.third, days.waited, days.export):
        assert days.server.key not in shown.stdout
