"""``kedro run`` with backend=together: it stops while a job is queued, and goes on another day."""

from __future__ import annotations

import re

import pytest

from tests.backends.helpers import MODEL, layers
from tests.backends.together_server import running_server
from tests.project import EMBEDDED, Project
from tracetune.files import read_json
from tracetune.training.model_folder import WEIGHTS

pytestmark = pytest.mark.training

FEW_STEPS = "max_steps: 5, per_device_train_batch_size: 4"
ONE_EPOCH = "num_train_epochs: 1, per_device_train_batch_size: 8"


def status(project: Project, stage: str) -> dict[str, str]:
    return read_json(project.latest("06_models", f"{stage}/adapter") / "status.json")


def test_a_run_that_waits_and_goes_on(project: Project) -> None:
    [base] = [path.parent for path in (project.path / EMBEDDED).rglob("model.safetensors")]
    sizes = project.path / "conf/test/parameters_training.yml"
    sizes.write_text(sizes.read_text().replace(FEW_STEPS, ONE_EPOCH))
    (project.path / "conf/test/parameters_together.yml").write_text(
        "together: {poll_seconds: 0.05}\n"
    )
    with running_server(layers=layers(base), endings=["stuck"]) as server:
        credentials = project.path / "conf/local/credentials.yml"
        credentials.write_text(f"together: {{api_key: {server.key}}}\n")
        params = (
            f"backend=together,together.model={MODEL},together.base_url={server.url},"
            "together.wait_minutes=0"
        )
        first = project.run("--pipeline=dpo", params=params)
        assert first.returncode == 0, first.stdout
        text = re.sub(r"\s+", " ", first.stdout)
        assert "kedro jobs wait ft-0001-abcd --tenant=demo --name=demo" in text
        assert text.count("Waiting") == 1
        assert f"Go on kedro run --pipeline=dpo --env=test --params={params}" in text
        assert [status(project, s)["status"] for s in ("sft", "dpo", "release")] == ["waiting"] * 3

        server.jobs["ft-0001-abcd"].ending = "completed"
        waited = project.kedro("jobs", "wait", "ft-0001", "--env=test")
        assert "ft-0001-abcd is completed ($1.20)" in waited.stdout
        patient = params.replace("minutes=0", "minutes=1")
        second = project.run("--pipeline=dpo", "--to-nodes=dpo.dpo.train", params=patient)
        assert second.returncode == 0, second.stdout
        assert [status(project, s)["status"] for s in ("sft", "dpo")] == ["trained"] * 2
        assert len(server.jobs) == 2
        assert server.jobs["ft-0002-abcd"].body["from_checkpoint"] == "ft-0001-abcd"
        assert (project.latest("06_models", "dpo/adapter") / WEIGHTS).is_file()
        written = [
            path
            for path in project.path.rglob("*")
            if path.is_file() and path != credentials and server.key.encode() in path.read_bytes()
        ]
        assert written == []
        for shown in (first, second, waited):
            assert server.key not in shown.stdout
