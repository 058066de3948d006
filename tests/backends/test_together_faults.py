"""Everything that can go wrong on the way: one paid job, and the next run ends correctly."""

from __future__ import annotations

import pytest

from tests.backends.helpers import backend, options, train
from tests.backends.together_server import KEY
from tests.training.helpers import sft_job
from tracetune.backends import commands
from tracetune.backends.remote import RemoteJobs
from tracetune.errors import ConfigurationError, DataError, ServerError, TracetuneError
from tracetune.files import read_json
from tracetune.training.model_folder import WEIGHTS

READS = ("limits", "upload", "put", "preprocess", "file", "estimate", "list", "job", "metrics")
FAULTS = [
    ("status", {"status": 429, "headers": {"retry-after": "0.01"}}),
    ("status", {"status": 408}),
    ("status", {"status": 503}),
    ("gateway", {"status": 502}),
    ("reset_before", {}),
    ("reset_after", {}),
    ("status_after", {"status": 408}),
    ("status_after", {"status": 500}),
    ("half_body", {}),
    ("html", {}),
    ("malformed", {}),
    ("empty", {}),
    ("list", {}),
]
IDS = [f"{kind}-{more.get('status', '')}".rstrip("-") for kind, more in FAULTS]


@pytest.mark.parametrize(("kind", "more"), FAULTS, ids=IDS)
def test_creation_that_fails_once(server, sft, tmp_path, kind, more):
    server.fail("create", kind, **more)
    train(backend(server, tmp_path), sft, tmp_path)
    assert len(server.jobs) == 1


@pytest.mark.parametrize("status", [408, 500, 504])
def test_creation_that_was_done_all_the_same_and_a_list_that_lags(server, sft, tmp_path, status):
    server.lag = 2
    server.fail("create", "status_after", status=status)
    train(backend(server, tmp_path, settle_seconds=0.5), sft, tmp_path)
    assert len(server.jobs) == 1


@pytest.mark.parametrize(("kind", "more"), FAULTS, ids=IDS)
def test_every_other_call_fails_once(server, sft, tmp_path, kind, more):
    for endpoint in READS:
        server.fail(endpoint, kind, **more)
    if kind not in ("malformed", "empty", "list", "half_body"):  # of an archive: other tests
        server.fail("download", kind, **more)
    train(backend(server, tmp_path), sft, tmp_path)
    assert len(server.jobs) == 1
    assert sum(file.status == "COMPLETED" for file in server.files.values()) == 1


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("endpoint", [*READS[:-1], "download"])
def test_a_call_that_is_refused_is_told_and_the_next_run_goes_on(
    server, sft, tmp_path, endpoint, status
):
    server.fail(endpoint, "status", status=status)
    with pytest.raises(TracetuneError, match=f"status {status}, please try again") as error:
        train(backend(server, tmp_path), sft, tmp_path)
    assert "What to do" in str(error.value)
    train(backend(server, tmp_path), sft, tmp_path)
    assert len(server.jobs) == 1
    assert (tmp_path / "model" / WEIGHTS).is_file()


@pytest.mark.parametrize("status", [400, 404])
def test_an_adapter_is_fetched_without_its_metrics(server, sft, tmp_path, caplog, status):
    server.fail("metrics", "status", 100, status=status)
    folder = train(backend(server, tmp_path), sft, tmp_path)
    assert read_json(folder / "history.json") == []
    assert f"gives no metrics of ft-0001-abcd: status {status}" in caplog.text


def test_a_file_that_is_removed_already_is_no_fault(server, sft, tmp_path):
    server.fail("preprocess", "reset_before", 100)
    with pytest.raises(ServerError, match="the upload of train"):
        train(backend(server, tmp_path, attempts=1), sft, tmp_path)
    server.faults.clear()
    server.fail("delete_file", "status_after", status=500)  # removed, and the reply is lost
    train(backend(server, tmp_path), sft, tmp_path)
    assert server.calls.count("delete_file") == 2
    assert len(server.jobs) == 1


@pytest.mark.parametrize("endpoint", ["whoami", "events", "metrics", "checkpoints", "job", "list"])
@pytest.mark.parametrize("status", [400, 404])
def test_commands_tell_what_is_refused(server, sft, tmp_path, endpoint, status):
    jobs, given = RemoteJobs(tmp_path / "jobs", KEY), options(server)
    handle = backend(server, tmp_path).launch(sft, tmp_path / "model", tmp_path)
    server.fail(endpoint, "status", 100, status=status)
    elsewhere = backend(server, tmp_path / "elsewhere")
    command = {
        "whoami": lambda: commands.check(jobs, given, None),
        "list": lambda: elsewhere.launch(sft, tmp_path / "other", tmp_path),
    }.get(endpoint, lambda: commands.show(jobs, given, handle.id))
    with pytest.raises(TracetuneError, match=f"status {status}, please try again"):
        command()


@pytest.mark.parametrize("shows_suffix", [True, False])
@pytest.mark.parametrize("lag", [0, 2])
def test_a_lost_reply_and_no_more_tries(server, sft, tmp_path, shows_suffix, lag):
    server.shows_suffix, server.lag = shows_suffix, lag
    server.fail("create", "reset_after")
    server.fail("list", "status", 3, status=503, skip=1)
    with pytest.raises(ServerError):
        train(backend(server, tmp_path, attempts=2), sft, tmp_path)
    assert RemoteJobs(tmp_path / "jobs", None).all()[0].state == "intended"
    train(backend(server, tmp_path, settle_seconds=0.5), sft, tmp_path)
    assert len(server.jobs) == 1


def test_creation_that_always_fails_in_doubt(server, sft, tmp_path):
    server.fail("create", "reset_before", 100)
    with pytest.raises(ServerError, match="not known whether the job was created"):
        train(backend(server, tmp_path, attempts=2), sft, tmp_path)
    server.faults.clear()
    train(backend(server, tmp_path), sft, tmp_path)
    assert len(server.jobs) == 1


def test_creation_that_is_always_refused_for_now(server, sft, tmp_path):
    server.fail("create", "status", 100, status=429)
    with pytest.raises(ServerError, match="nothing was paid"):
        train(backend(server, tmp_path, attempts=2), sft, tmp_path)
    assert not server.jobs
    server.faults.clear()
    train(backend(server, tmp_path), sft, tmp_path)
    assert len(server.jobs) == 1


def test_a_refused_request_is_not_tried_again(server, sft, tmp_path):
    server.fail("create", "status", status=400)
    with pytest.raises(ServerError, match="refuses the job: status 400, please try again"):
        train(backend(server, tmp_path), sft, tmp_path)
    assert server.calls.count("create") == 1


def test_a_file_rejected_in_processing(server, sft, base, tmp_path):
    server.refuse_files = "line 3: the tokenizer found nothing"
    for _ in range(2):
        with pytest.raises(DataError, match=r"INVALID_FORMAT.*line 3: the tokenizer"):
            train(backend(server, tmp_path), sft, tmp_path)
    assert not server.jobs
    server.refuse_files = ""
    corrected = sft_job(base, tmp_path / "rows", rows=20, per_device_train_batch_size=8)
    train(backend(server, tmp_path), corrected, tmp_path)
    assert len(server.jobs) == 1


def test_a_file_whose_check_failed_is_sent_anew(server, sft, tmp_path):
    server.failing_files = 2
    for _ in range(2):
        with pytest.raises(ServerError, match="the worker was lost") as error:
            train(backend(server, tmp_path), sft, tmp_path)
        assert "removed there and is sent anew" in str(error.value)
        assert RemoteJobs(tmp_path / "jobs", None).all()[0].files == {}
    train(backend(server, tmp_path), sft, tmp_path)
    assert server.calls.count("put") == 3
    assert len(server.jobs) == 1


def test_a_file_that_is_never_checked(server, sft, tmp_path):
    server.file_polls = 10_000
    with pytest.raises(ServerError, match="has not checked"):
        train(backend(server, tmp_path, file_minutes=0.001), sft, tmp_path)
    server.file_polls = 1
    train(backend(server, tmp_path), sft, tmp_path)
    assert len(server.jobs) == 1


@pytest.mark.parametrize("ending", ["error", "user_error", "cancelled"])
def test_a_job_that_gives_no_model(server, sft, tmp_path, ending):
    server.endings = [ending]
    with pytest.raises(DataError, match=f"gave no model: {ending}") as error:
        train(backend(server, tmp_path), sft, tmp_path)
    assert KEY not in str(error.value)
    if ending != "cancelled":
        assert "the trainer stopped" in str(error.value)
    folder = train(backend(server, tmp_path), sft, tmp_path)
    assert (folder / WEIGHTS).is_file()
    assert server.paid() == 1
    [record] = RemoteJobs(tmp_path / "jobs", None).all()
    assert record.attempts[0].id == "ft-0001-abcd"
    assert server.jobs["ft-0002-abcd"].body["suffix"].endswith("-2")


def test_a_stuck_job(server, sft, tmp_path):
    server.endings = ["stuck"]
    chosen = backend(server, tmp_path, deadline_hours=1e-9)
    handle = chosen.launch(sft, tmp_path / "model", tmp_path)
    with pytest.raises(ServerError, match=f"kedro jobs cancel {handle.id}"):
        chosen.poll(handle)
    server.jobs[handle.id].ending = "completed"
    train(backend(server, tmp_path), sft, tmp_path)
    assert len(server.jobs) == 1


def test_a_status_that_nobody_knows_is_under_way(server, sft, tmp_path):
    server.way = ["pending", "paused_by_the_moon", "completed"]
    chosen = backend(server, tmp_path)
    handle = chosen.launch(sft, tmp_path / "model", tmp_path)
    assert chosen.poll(handle).message == "paused_by_the_moon"
    assert chosen.poll(handle).state == "completed"


def test_a_job_that_the_service_does_not_know(server, sft, tmp_path):
    chosen = backend(server, tmp_path)
    handle = chosen.launch(sft, tmp_path / "model", tmp_path)
    server.jobs.clear()
    with pytest.raises(DataError, match="does not know job"):
        chosen.poll(handle)


def test_a_key_that_is_revoked_in_between(server, sft, tmp_path):
    chosen = backend(server, tmp_path)
    handle = chosen.launch(sft, tmp_path / "model", tmp_path)
    server.key = "another"
    with pytest.raises(ConfigurationError) as error:
        chosen.poll(handle)
    assert KEY not in str(error.value)
