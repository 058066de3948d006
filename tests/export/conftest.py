"""Tiny models, their releases and files, made once for all tests of the export."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export import models
from tests.export.models import SHAPES
from tracetune.export import gguf_writer, parity
from tracetune.export.gguf_writer import Written
from tracetune.export.parity import Reference


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the models of all shapes."""
    root = tmp_path_factory.mktemp("tiny")
    return {name: models.make(shape, root / name) for name, shape in SHAPES.items()}


@pytest.fixture(scope="session")
def known(tiny: dict[str, Path]) -> dict[str, Reference]:
    """What Hugging Face says about each of them."""
    return {name: parity.reference(folder, "Answer.", 48) for name, folder in tiny.items()}


@pytest.fixture(scope="session")
def written(
    tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Written]]:
    """Each of them in float32, float16 and all quantized formats."""
    root = tmp_path_factory.mktemp("gguf")
    kinds = ("f32", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m")
    return {
        name: {
            kind: gguf_writer.write(folder, root / f"{name}-{kind}.gguf", kind, name=name)
            for kind in kinds
        }
        for name, folder in tiny.items()
    }


@pytest.fixture(scope="session")
def release(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released adapter of the tiny Llama. Do not change it."""
    return models.release(tiny["llama"], tmp_path_factory.mktemp("release") / "adapter")
