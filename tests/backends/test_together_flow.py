"""From rows to a model folder at Together AI, and DPO on top of it, against the strict server."""

from __future__ import annotations

import pytest

from tests.backends.helpers import backend, train
from tracetune.training.model_folder import WEIGHTS

pytestmark = pytest.mark.training


def test_sft(server, sft, base, tmp_path):
    folder = train(backend(server, tmp_path), sft, tmp_path)
    assert (folder / WEIGHTS).is_file()
    assert server.paid() == 1
