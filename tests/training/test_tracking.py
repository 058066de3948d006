"""Experiment logs: the same curves as in ``history.json``, and never another result."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.training.helpers import dpo_job, sft_job
from tests.training.test_embedding import TINY, triplets
from tracetune.errors import ConfigurationError
from tracetune.files import read_json, sha256_folder, write_text
from tracetune.training import encoder, tracking
from tracetune.training.base import BaseModelRef
from tracetune.training.embedding_job import build_embedding_job
from tracetune.training.embedding_options import EmbeddingOptions, EncoderOptions
from tracetune.training.job import TrainingJob, job_hash, write_dataset
from tracetune.training.run import run
from tracetune.training.tracking import Tracking

pytestmark = pytest.mark.training
SKIP = frozenset({"timing.json"})
RUN = "demo/desk/dpo.sft"
KEY = "0123456789abcdef" * 2 + "01234567"
"""Looks like a key of wandb and is none."""

TRAIN = """
import sys
from pathlib import Path
from tracetune.training.job import TrainingJob
from tracetune.training.run import run
from tracetune.training.tracking import Tracking
job, out, work, logs, tools = sys.argv[1:]
spec = Tracking(tuple(tools.split("+")), "demo/desk/dpo.sft", Path(logs))
run(TrainingJob.model_validate_json(Path(job).read_text()), Path(out), Path(work), tracking=spec)
"""
Points = Counter[tuple[str, int, float]]


def points(history: list[dict[str, Any]]) -> Points:
    """Name, step and value of everything in a history, as precise as a float32."""
    return Counter(
        (name, entry["step"], float(f"{value:.5g}"))
        for entry in history
        for name, value in entry.items()
        if name != "step"
    )


def in_tensorboard(logs: Path, job: TrainingJob) -> Points:
    """What TensorBoard itself reads from the event files of a job."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = EventAccumulator(
        str(logs / "tensorboard" / RUN / job_hash(job)[:12]), size_guidance={"tensors": 0}
    ).Reload()
    tags = [tag for tag in found.Tags()["tensors"] if not tag.startswith("job/")]
    return Counter(
        (tag, event.step, float(f"{make_ndarray(event.tensor_proto).item():.5g}"))
        for tag in tags
        for event in found.Tensors(tag)
    )


def start(job: TrainingJob, root: Path, tools: str, **environment: str) -> subprocess.Popen[str]:
    """A training with logs in a process of its own."""
    write_text(root / "job.json", job.model_dump_json())
    places = [str(root / name) for name in ("job.json", "out", "work", "logs")]
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, *places, tools],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("given", "tools"),
    [
        (None, ()),
        ("none", ()),
        ([], ()),
        ("tensorboard", ("tensorboard",)),
        ("wandb+tensorboard", ("tensorboard", "wandb")),
        (["trackio", "trackio"], ("trackio",)),
    ],
)
def test_one_several_or_none(given: Any, tools: tuple[str, ...]) -> None:
    assert tracking.tools_of(given) == tools


@pytest.mark.parametrize("given", ["tensorbord", "all", True, 3, "", ["none", "wandb"], {"a": 1}])
def test_another_name_is_an_error_that_lists_the_tools(given: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        tracking.tools_of(given)
    assert "tensorboard, wandb, trackio" in str(caught.value)
    assert "report_to" in str(caught.value)


@pytest.mark.parametrize("tool", tracking.INSTALL)
def test_a_missing_library_is_named_with_its_installation(
    monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    monkeypatch.setitem(sys.modules, tool, None)  # Python's own mark of a module that is not there
    with pytest.raises(ConfigurationError) as caught:
        tracking.check([tool])
    assert f"{tool} is not installed" in str(caught.value)
    assert tracking.INSTALL[tool] in str(caught.value)


def test_a_log_that_cannot_be_written_stops_before_the_first_step(
    base: BaseModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    job = sft_job(base, tmp_path / "rows", rows=8)
    logs = Tracking(("tensorboard",), RUN, tmp_path / "logs")
    with pytest.raises(ConfigurationError, match=r"tracetune\[logging\]"):
        run(job, tmp_path / "out", tmp_path / "w", tracking=logs)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "w").rglob("checkpoint-*"))


def test_tensorboard_reads_the_values_of_history_and_the_result_is_the_same(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path
) -> None:
    logs = Tracking(("tensorboard",), RUN, tmp_path / "logs")
    jobs = {
        "sft": sft_job(base, tmp_path / "sft", rows=48, validation=6),
        "dpo": dpo_job(base, tmp_path / "dpo", sft_folder, rows=16, validation=4),
    }
    for name, job in jobs.items():
        silent = run(job, tmp_path / name / "silent", tmp_path / name / "work")
        logged = run(job, tmp_path / name / "logged", tmp_path / name / "again", tracking=logs)
        assert sha256_folder(logged, skip=SKIP) == sha256_folder(silent, skip=SKIP)
        history = read_json(logged / "history.json")
        assert {"loss", "eval_loss"} <= {name for entry in history for name in entry}
        assert in_tensorboard(logs.folder, job) == points(history)
    text = b"".join(p.read_bytes() for p in logs.folder.rglob("*") if p.is_file())
    assert str(tmp_path).encode() not in text


def test_the_encoder_is_logged_like_the_others(tmp_path: Path) -> None:
    model = encoder.resolve(EncoderOptions(embedded=TINY), tmp_path / "cache")
    folder = write_dataset(tmp_path / "rows", triplets(40), triplets(8, seed=2))
    options = EmbeddingOptions.model_validate({"trainer": {"num_train_epochs": 1}})
    job = build_embedding_job(base=model, dataset=folder, options=options, seed=1, threads=1)
    logs = Tracking(("tensorboard",), RUN, tmp_path / "logs")
    out = run(job, tmp_path / "out", tmp_path / "work", tracking=logs)
    assert in_tensorboard(logs.folder, job) == points(read_json(out / "history.json"))


def test_a_training_that_is_finished_gets_the_log_that_was_not_asked_for_then(
    base: BaseModelRef, tmp_path: Path
) -> None:
    job = sft_job(base, tmp_path / "rows", rows=16)
    out = run(job, tmp_path / "out", tmp_path / "work")
    logs = Tracking(("tensorboard",), RUN, tmp_path / "logs")
    run(job, out, tmp_path / "work", tracking=logs)
    assert in_tensorboard(logs.folder, job) == points(read_json(out / "history.json"))
    before = sha256_folder(logs.folder)
    run(job, out, tmp_path / "work", tracking=logs)
    assert sha256_folder(logs.folder) == before  # a log that is whole is left alone


@pytest.mark.faults
def test_killed_and_continued_the_logs_are_whole_and_hold_nothing_twice(
    base: BaseModelRef, tmp_path: Path
) -> None:
    job = sft_job(base, tmp_path / "rows", rows=96, validation=12)
    whole = run(job, tmp_path / "whole")
    place = tmp_path / "work" / job_hash(job)[:12]
    process = start(job, tmp_path, "tensorboard+trackio")
    deadline = time.monotonic() + 120
    while not any((place / f"checkpoint-{step}/complete.json").exists() for step in range(6, 40)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = start(job, tmp_path, "tensorboard+trackio")
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "rackio" not in output  # it speaks to nobody
    assert sha256_folder(tmp_path / "out", skip=SKIP) == sha256_folder(whole, skip=SKIP)
    assert read_json(tmp_path / "out/timing.json")["resumed_from_step"] >= 6
    history = points(read_json(whole / "history.json"))
    assert in_tensorboard(tmp_path / "logs", job) == history
    assert in_trackio(tmp_path / "logs") == {RUN: history}


def in_trackio(logs: Path) -> dict[str, Points]:
    """What trackio itself reads from its database, by name of the run."""
    code = (
        "import json, sys, trackio\n"
        "from trackio.sqlite_storage import SQLiteStorage as store\n"
        "found = [(r.name, store.get_logs('tracetune', r.name, run_id=r.id))\n"
        "         for r in trackio.Api().runs('tracetune')]\n"
        "print(json.dumps(found, default=str))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TRACKIO_DIR": str(logs / "trackio")},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Points] = {}
    for name, rows in json.loads(done.stdout):
        assert name not in found
        found[name] = points([{k: v for k, v in row.items() if k != "timestamp"} for row in rows])
    return found


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is too large for the extra dev")
def test_wandb_offline_holds_the_history_and_no_key(base: BaseModelRef, tmp_path: Path) -> None:
    job = sft_job(base, tmp_path / "rows", rows=48, validation=6)
    home = tmp_path / "home"
    home.mkdir()
    offline = {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY, "HOME": str(home)}
    process = start(job, tmp_path, "wandb", **offline)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    whole = run(job, tmp_path / "whole")
    assert sha256_folder(tmp_path / "out", skip=SKIP) == sha256_folder(whole, skip=SKIP)
    [file] = (tmp_path / "logs").rglob("*.wandb")
    assert job_hash(job)[:32] in file.name
    name, history = _in_wandb(file)
    assert name == RUN
    assert points(history) == points(read_json(whole / "history.json"))
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    assert KEY not in output


def _in_wandb(file: Path) -> tuple[str, list[dict[str, Any]]]:
    """Name and history in the file of a run, which wandb has no reader for."""
    from wandb.proto.wandb_internal_pb2 import Record

    name, history = "", []
    for data in _leveldb_records(file.read_bytes()):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "run":
            name = record.run.display_name
        if record.WhichOneof("record_type") == "history":
            items = [(i.key or "/".join(i.nested_key), i.value_json) for i in record.history.item]
            history.append({k: json.loads(v) for k, v in items if not k.startswith("_")})
    return name, history


def _leveldb_records(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log: blocks of 32 KiB; each part has checksum, length and kind."""
    place, parts = 7, b""  # after wandb's own header
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole record, or its last part
            yield parts
            parts = b""


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is too large for the extra dev")
def test_wandb_without_a_key_stops_before_the_training(base: BaseModelRef, tmp_path: Path) -> None:
    job = sft_job(base, tmp_path / "rows", rows=8)
    process = start(job, tmp_path, "wandb", HOME=str(tmp_path), NETRC=str(tmp_path / "none"))
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "wandb has no key" in output
    assert "WANDB_MODE=offline" in output
    assert not list((tmp_path / "work").rglob("checkpoint-*"))
