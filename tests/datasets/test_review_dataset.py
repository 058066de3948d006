"""The dataset that holds a review."""

from __future__ import annotations

import subprocess
import sys

import pytest
from kedro.io import DatasetError

from tests.review.builders import AT, SPEC, item
from tracetune.datasets.review_dataset import ReviewDataset
from tracetune.errors import ConfigurationError

KEY = "px-not-a-real-key"


def test_it_gives_a_handle_that_shows_no_key(tmp_path):
    dataset = ReviewDataset(filepath=str(tmp_path / "r"), credentials={"api_key": KEY})
    reviews = dataset.load()
    assert reviews.store.folder == tmp_path / "r"
    assert KEY not in repr(reviews) + repr(dataset) + str(dataset) + repr(reviews.store)
    assert not dataset.exists()
    reviews.store.submit([item(1)], SPEC, auto_approve_from=None, at=AT)
    assert dataset.exists()
    assert [found.item for found in dataset.load().store.items()] == [item(1)]


def test_it_is_not_saved_as_a_whole(tmp_path):
    with pytest.raises(DatasetError, match="not saved as a whole"):
        ReviewDataset(filepath=str(tmp_path)).save([])


def test_a_wrong_address_names_its_setting(tmp_path):
    reviews = ReviewDataset(filepath=str(tmp_path)).load()
    with pytest.raises(ConfigurationError, match=r"review\.url"):
        reviews.server("ftp://nowhere")


def test_heavy_libraries_are_not_loaded_with_it():
    code = (
        "import sys, tracetune.datasets.review_dataset, tracetune.review.command, "
        "tracetune.review.phoenix_place\n"
        "print([name for name in ('textual', 'httpx', 'torch', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
