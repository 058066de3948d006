"""A tiny base model, jobs on it, and a fresh server per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.helpers import layers
from tests.backends.together_server import Server, running_server
from tests.training.helpers import TINY, sft_job
from tracetune import hosted_calls
from tracetune.training import base as base_model
from tracetune.training.base import BaseModelRef
from tracetune.training.job import TrainingJob
from tracetune.training.options import BaseModelOptions


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModelRef:
    return base_model.resolve(BaseModelOptions(), tmp_path_factory.mktemp("embedded"), TINY)


@pytest.fixture(scope="session")
def sft(base: BaseModelRef, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    folder = tmp_path_factory.mktemp("rows") / "sft"
    return sft_job(base, folder, per_device_train_batch_size=8)


@pytest.fixture
def server(base: BaseModelRef) -> Iterator[Server]:
    with running_server(layers=layers(Path(base.path))) as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted_calls, "_FIRST_WAIT", 0.01)
