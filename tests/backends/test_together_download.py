"""Downloads that break off, change, find no room or are no adapter: never a wrong model folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from tests.backends.helpers import backend, options, train
from tests.backends.together_server import KEY
from tests.backends.together_state import adapter_files, pack, tar
from tests.limits import no_file_larger_than
from tracetune.backends import commands, together_fetch
from tracetune.backends.remote import RemoteJobs
from tracetune.errors import DataError, ServerError
from tracetune.files import sha256_file
from tracetune.training.model_folder import WEIGHTS


def bring(server, sft, folder: Path) -> Path:
    return train(backend(server, folder), sft, folder)


@pytest.mark.parametrize("times", [1, 3])
def test_a_truncated_download_goes_on_where_it_broke_off(server, sft, tmp_path, times):
    server.fail("download", "truncated", times)
    bring(server, sft, tmp_path)
    [record] = RemoteJobs(tmp_path / "jobs", None).all()
    archive = next((tmp_path / "jobs").rglob("adapter.archive"))
    assert archive.read_bytes() == server.jobs[record.id].archive
    assert record.archive_sha256 == sha256_file(archive)
    assert not list((tmp_path / "jobs").rglob("*.part*"))


def test_a_service_that_cannot_give_parts(server, sft, tmp_path):
    server.fail("download", "truncated")
    server.fail("download", "no_range")
    bring(server, sft, tmp_path)


def test_an_archive_that_changed_in_between(server, sft, tmp_path):
    server.fail("download", "truncated", 1)
    made: list[bytes] = []

    def other(state, job):
        made.append(pack(state, job))
        return made[-1] + b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00" * len(made)

    server.pack = other
    chosen = backend(server, tmp_path, attempts=1)
    handle = chosen.launch(sft, tmp_path / "model", tmp_path)
    while chosen.poll(handle).state == "running":
        pass
    with pytest.raises(ServerError, match="goes on where it broke off"):
        chosen.fetch(handle)
    server.jobs[handle.id].archive = b""  # the service packs it anew
    bring(server, sft, tmp_path)
    archive = next((tmp_path / "jobs").rglob("adapter.archive"))
    assert archive.read_bytes() == server.jobs[handle.id].archive


def test_a_garbled_download_is_noticed_and_fetched_anew(server, sft, tmp_path):
    server.fail("download", "garbled")
    with pytest.raises(DataError, match="broken"):
        bring(server, sft, tmp_path)
    bring(server, sft, tmp_path)
    assert len(server.jobs) == 1


def test_an_archive_that_the_service_packs_anew_is_taken(server, sft, tmp_path):
    bring(server, sft, tmp_path)
    [record] = RemoteJobs(tmp_path / "jobs", None).all()
    archive = next((tmp_path / "jobs").rglob("adapter.archive"))
    archive.unlink()
    server.jobs[record.id].archive = tar(adapter_files(server, server.jobs[record.id]))
    commands.fetch(RemoteJobs(tmp_path / "jobs", KEY), options(server), record.id, tmp_path / "two")
    assert (tmp_path / "two" / WEIGHTS).read_bytes() == (tmp_path / "model" / WEIGHTS).read_bytes()
    [after] = RemoteJobs(tmp_path / "jobs", None).all()
    assert after.archive_sha256 == sha256_file(archive) != record.archive_sha256


def test_an_archive_that_changed_on_this_machine_is_noticed(server, sft, tmp_path):
    bring(server, sft, tmp_path)
    archive = next((tmp_path / "jobs").rglob("adapter.archive"))
    archive.write_bytes(archive.read_bytes() + b"x")
    jobs, given = RemoteJobs(tmp_path / "jobs", KEY), options(server)
    with pytest.raises(DataError, match="has changed on this machine"):
        commands.fetch(jobs, given, "ft-0001", tmp_path / "two")
    commands.fetch(jobs, given, "ft-0001", tmp_path / "two")
    assert (tmp_path / "two" / WEIGHTS).is_file()


def ready(server, sft, folder: Path, **changes):
    """A backend, and a job of it that is completed."""
    chosen = backend(server, folder, **changes)
    handle = chosen.launch(sft, folder / "model", folder)
    while chosen.poll(handle).state == "running":
        pass
    return chosen, handle


def test_no_room_for_the_download(server, sft, tmp_path):
    chosen, handle = ready(server, sft, tmp_path)
    with no_file_larger_than(50_000), pytest.raises(DataError, match="no room") as error:
        chosen.fetch(handle)
    assert "downloaded is kept" in str(error.value)
    part = next((tmp_path / "jobs").rglob("*.part"))
    assert part.stat().st_size == 50_000
    chosen.fetch(handle)
    assert server.calls.count("download") == 2


def test_no_room_for_what_is_unpacked(server, sft, tmp_path):
    server.pack = lambda state, job: compressed(
        tar({"big": bytes(3_000_000), **adapter_files(state, job)})
    )
    chosen, handle = ready(server, sft, tmp_path)
    with no_file_larger_than(2_000_000), pytest.raises(DataError, match="no room") as error:
        chosen.fetch(handle)
    assert "make room on the disk" in str(error.value)
    [archive] = (tmp_path / "jobs").rglob("adapter.archive")
    assert not (archive.parent / "adapter").exists()
    chosen.fetch(handle)
    assert server.calls.count("download") == 1


def test_a_stop_before_the_first_byte_never_mixes_two_archives(server, sft, tmp_path, monkeypatch):
    server.fail("download", "truncated")
    chosen, handle = ready(server, sft, tmp_path, attempts=1)
    with pytest.raises(ServerError):
        chosen.fetch(handle)
    # The service packs it anew; the run stops as soon as the new ETag is on disk.
    server.jobs[handle.id].archive = tar(adapter_files(server, server.jobs[handle.id]))
    noted = together_fetch.write_json

    def stop(path: Path, value: object) -> None:
        noted(path, value)
        raise KeyboardInterrupt

    monkeypatch.setattr(together_fetch, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        chosen.fetch(handle)
    monkeypatch.setattr(together_fetch, "write_json", noted)
    chosen.fetch(handle)
    archive = next((tmp_path / "jobs").rglob("adapter.archive"))
    assert archive.read_bytes() == server.jobs[handle.id].archive


def compressed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def device() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("pipe")
        entry.type = tarfile.FIFOTYPE
        archive.addfile(entry)
    return out.getvalue()


UNSAFE = {
    "above": lambda: tar({"../../escaped": b"x"}),
    "absolute": lambda: tar({"/tmp/escaped-from-tracetune": b"x"}),
    "link": lambda: tar({"model/a": b"x"}, links={"model": "/tmp"}),
    "pipe": device,
}


@pytest.mark.parametrize("how", UNSAFE)
def test_an_unsafe_archive_is_not_unpacked(server, sft, tmp_path, how):
    server.pack = lambda state, job: compressed(UNSAFE[how]())
    with pytest.raises(DataError, match=r"(?s)not unpacked.*archive is kept"):
        bring(server, sft, tmp_path / "inside")
    assert not Path("/tmp/escaped-from-tracetune").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside"]
    assert not (tmp_path / "inside/model").exists()


def test_a_bomb_is_not_unpacked(server, sft, tmp_path):
    server.pack = lambda state, job: compressed(tar({"model/big": bytes(3_000_000)}))
    chosen = backend(server, tmp_path, archive_gb=0.001)
    with pytest.raises(DataError, match=r"larger than together.archive_gb=0.001") as error:
        train(chosen, sft, tmp_path)
    assert "raise it and run again" in str(error.value)
    [archive] = (tmp_path / "jobs").rglob("adapter.archive")
    assert not (archive.parent / "adapter").exists()
    with pytest.raises(DataError, match=r"no adapter_config.json"):
        train(backend(server, tmp_path), sft, tmp_path)
    assert server.calls.count("download") == 1


def changed(**files: bytes | None):
    def make(state, job):
        names = {"weights": WEIGHTS, "config": "adapter_config.json", "pickle": "adapter_model.bin"}
        found = adapter_files(state, job)
        for name, data in files.items():
            found.pop(names[name], None)
            if data is not None:
                found[names[name]] = data
        return compressed(tar(found))

    return make


@pytest.mark.parametrize(
    ("pack_as", "says"),
    [
        (changed(weights=None, pickle=b"x"), "pickled weights are not loaded"),
        (changed(config=None), "no adapter_config.json"),
        (changed(config=b"{"), "cannot be read"),
        (changed(config=b'{"peft_type": "IA3", "r": 8}'), "not LORA"),
        (changed(config=b'{"peft_type": "LORA", "r": 4}'), "its rank is 4, asked for was 8"),
        (changed(weights=b"nonsense"), "weights cannot be read"),
    ],
)
def test_an_adapter_that_cannot_be_used(server, sft, tmp_path, pack_as, says):
    server.pack = pack_as
    with pytest.raises(DataError, match=says):
        bring(server, sft, tmp_path)
    assert not (tmp_path / "model").exists()


def test_an_adapter_of_another_base(server, sft, tmp_path):
    server.layers = {name: (out + 8, width) for name, (out, width) in server.layers.items()}
    with pytest.raises(DataError, match="must be a copy of the hosted model"):
        bring(server, sft, tmp_path)


def test_an_archive_packed_by_gzip(server, sft, tmp_path):
    import gzip

    server.pack = lambda state, job: gzip.compress(tar(adapter_files(state, job)))
    assert (bring(server, sft, tmp_path) / WEIGHTS).is_file()
