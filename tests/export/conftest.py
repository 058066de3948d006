"""Tiny models, their releases and files, each made when a test first asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import pytest

from tests.export import models
from tests.export.models import SHAPES
from tracetune.export import gguf_writer, parity
from tracetune.export.gguf_writer import Written
from tracetune.export.parity import Reference

Value = TypeVar("Value")


class Made(dict[str, Value], Generic[Value]):
    """What is asked for under a name is made the first time, so that no worker makes all of it."""

    def __init__(self, make: Callable[[str], Value]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> Value:
        value = self[name] = self._make(name)
        return value


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Made[Path]:
    """Folders of the models of all shapes."""
    root = tmp_path_factory.mktemp("tiny")
    return Made(lambda name: models.make(SHAPES[name], root / name))


@pytest.fixture(scope="session")
def known(tiny: Made[Path]) -> Made[Reference]:
    """What Hugging Face says about each of them."""
    return Made(lambda name: parity.reference(tiny[name], "Answer.", 48))


@pytest.fixture(scope="session")
def written(tiny: Made[Path], tmp_path_factory: pytest.TempPathFactory) -> Made[Made[Written]]:
    """Each of them in float32, float16 and all quantized formats."""
    root = tmp_path_factory.mktemp("gguf")

    def write(name: str, kind: str) -> Written:
        return gguf_writer.write(tiny[name], root / f"{name}-{kind}.gguf", kind, name=name)

    return Made(lambda name: Made(lambda kind: write(name, kind)))


@pytest.fixture(scope="session")
def release(tiny: Made[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released adapter of the tiny Llama. Do not change it."""
    return models.release(tiny["llama"], tmp_path_factory.mktemp("release") / "adapter")
