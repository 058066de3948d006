"""The tiny base model and its adapters, built once for all tests of training in all workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shared import made_once
from tests.training.helpers import TINY, dpo_job, sft_job
from tracetune.training import base as base_model
from tracetune.training.base import BaseModelRef
from tracetune.training.options import BaseModelOptions
from tracetune.training.run import run


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the base model."""

    def make(folder: Path) -> None:
        base_model.resolve(BaseModelOptions(), folder, TINY)

    return made_once(tmp_path_factory, "training-embedded", make)


@pytest.fixture(scope="session")
def base(cache: Path) -> BaseModelRef:
    return base_model.resolve(BaseModelOptions(), cache, TINY)


@pytest.fixture(scope="session")
def sft_folder(base: BaseModelRef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of SFT; the checkpoints of its training lie beside it."""

    def make(root: Path) -> None:
        run(sft_job(base, root / "rows"), root / "adapter", root / "work")

    return made_once(tmp_path_factory, "training-sft", make) / "adapter"


@pytest.fixture(scope="session")
def dpo_folder(
    base: BaseModelRef, sft_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model folder of DPO after it."""

    def make(root: Path) -> None:
        run(dpo_job(base, root / "rows", sft_folder), root / "adapter", root / "work")

    return made_once(tmp_path_factory, "training-dpo", make) / "adapter"
