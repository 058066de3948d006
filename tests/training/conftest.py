"""The tiny base model and its adapters, built once for all tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.helpers import TINY, dpo_job, sft_job
from tracetune.training import base as base_model
from tracetune.training.base import BaseModelRef
from tracetune.training.options import BaseModelOptions
from tracetune.training.run import run


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="session")
def base(cache: Path) -> BaseModelRef:
    return base_model.resolve(BaseModelOptions(), cache, TINY)


@pytest.fixture(scope="session")
def sft_folder(base: BaseModelRef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sft")
    return run(sft_job(base, root / "rows"), root / "adapter", root / "work")


@pytest.fixture(scope="session")
def dpo_folder(
    base: BaseModelRef, sft_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("dpo")
    return run(dpo_job(base, root / "rows", sft_folder), root / "adapter", root / "work")
