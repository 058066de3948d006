"""The dataset that gives access to writers, and the key that appears nowhere."""

from __future__ import annotations

import logging
import traceback

import pytest
from kedro.io import DatasetError

from tests.llm.anthropic_server import KEY
from tests.llm.helpers import ask, options, outcomes, run
from tracetune.datasets.llm_dataset import LlmDataset
from tracetune.errors import TracetuneError
from tracetune.llm import LlmOptions
from tracetune.llm.anthropic_writer import AnthropicWriter
from tracetune.llm.offline import OfflineWriter


@pytest.fixture
def dataset(tmp_path) -> LlmDataset:
    return LlmDataset(filepath=str(tmp_path / "llm"), credentials={"api_key": KEY})


def test_it_opens_the_writer_that_the_options_name(dataset, server, tmp_path):
    access = dataset.load()
    assert access.folder == tmp_path / "llm"
    assert isinstance(access.open(LlmOptions(), 1), OfflineWriter)
    assert access.open(LlmOptions(), 1).label == "offline generator"
    assert not access.folder.exists()
    writer = access.open(options(server), 1)
    assert writer.label == "Anthropic claude-haiku-5-5"
    assert outcomes(writer.write(ask())) == ["answered"] * 3


def test_it_exists_before_anything_was_written_and_is_never_saved(dataset):
    assert dataset.exists()
    with pytest.raises(DatasetError, match="kept by the writers"):
        dataset.save("anything")


def test_nothing_shows_the_key(dataset, server):
    access = dataset.load()
    for shown in (dataset, access, access.open(options(server), 1), dataset._describe()):
        assert KEY not in f"{shown!r} {shown}"


FAULTS = [
    ("count", "status", {"status": 401}),
    ("count", "status", {"status": 400}),
    ("list", "html", {}),
    ("create", "status", {"status": 500}),
    ("retrieve", "reset_before", {}),
    ("results", "cut_in_line", {}),
    ("messages", "reset_after", {}),
    ("messages", "malformed", {}),
    ("messages", "status", {"status": 403}),
]


@pytest.mark.parametrize(("endpoint", "kind", "how"), FAULTS)
@pytest.mark.parametrize("mode", ["batch", "direct"])
def test_the_key_is_in_no_file_log_line_or_error(
    server, tmp_path, caplog, capfd, mode, endpoint, kind, how
):
    caplog.set_level(logging.DEBUG)
    real = server.answer

    def telltale(params):  # a service that shows the key it was called with
        return f"your key is {KEY} " + str(real(params))

    server.answer = telltale
    server.fail(endpoint, kind, 99, **how)
    seen = ""
    try:
        results = run(server, tmp_path / "llm", mode=mode, attempts=2)
        seen = repr(results)
    except TracetuneError as error:
        seen = "".join(traceback.format_exception(error)) + repr(error)
    out, err = capfd.readouterr()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    written = "".join(path.read_text(errors="replace") for path in files)
    for text in (seen, out, err, caplog.text, written, repr(server.special)):
        assert KEY not in text


def test_the_key_in_a_refusal_is_taken_out(server, tmp_path):
    wrong = "sk-ant-wrong-5555"
    with pytest.raises(TracetuneError, match=r"invalid x-api-key: \[key\]"):
        AnthropicWriter(options(server), tmp_path, wrong).write(ask())
