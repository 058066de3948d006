"""Download of an adapter: it goes on where it broke off, and counts only when it is whole."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from tracetune.backends.together_calls import Service
from tracetune.errors import DataError, ServerError
from tracetune.files import read_json, sync, write_json
from tracetune.hosted_calls import Ambiguous, NotTaken, Refused, Retry

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("tracetune")

ARCHIVE = "adapter.archive"
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_BLOCK = 1 << 20
_LONGEST_SECONDS = 3600.0
_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
_MOST_MEMBERS = 1000


def download(service: Service, job_id: str, folder: Path, attempts: int) -> Path:
    """The archive with the adapter of a job.

    A part of an earlier try is kept and completed, if the service still has the very same archive
    (its ETag); else the download starts anew.

    Args:
        service: The API.
        job_id: The job.
        folder: Where the archive and its parts lie.
        attempts: Tries without any progress before giving up.

    Raises:
        DataError: There is no room for it.
        ServerError: It could not be downloaded as a whole.
    """
    target = folder / ARCHIVE
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    retry = Retry(attempts, time.monotonic() + _LONGEST_SECONDS, threading.Event())
    part, failures = folder / f"{ARCHIVE}.part", 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        asked = None
        try:
            _take(service, job_id, part)
            break
        except (Ambiguous, NotTaken) as error:
            reason, asked = str(error), getattr(error, "wait", None)
        except Refused as error:
            raise ServerError(
                f"the service does not give the adapter of {job_id}: {error}",
                where=service.address,
                remedy="see `kedro jobs show` for what can be downloaded",
            ) from None
        except OSError as error:
            raise _no_room(error, folder, "downloaded") from None
        after = part.stat().st_size if part.is_file() else 0
        failures = 0 if after > before else failures + 1
        logger.warning("The download broke off after %d bytes: %s", after, reason)
        if not retry.wait(failures, asked):
            raise ServerError(
                f"the adapter of {job_id} could not be downloaded: {reason}",
                where=service.address,
                remedy="run again, or `kedro jobs fetch`: it goes on where it broke off",
            )
    sync(part)
    part.replace(target)
    sync(folder)
    _note(part).unlink(missing_ok=True)
    return target


def _take(service: Service, job_id: str, part: Path) -> None:
    """One try: appends what is missing, then checks the size."""
    have = part.stat().st_size if part.is_file() else 0
    note = read_json(_note(part)) if have and _note(part).is_file() else {}
    headers = {}
    if have and note.get("etag"):
        headers = {"Range": f"bytes={have}-", "If-Range": note["etag"]}
    with service.archive(job_id, headers) as answer:
        start, total = _bounds(answer, have)
        if note.get("total") not in (None, total) and start:
            part.unlink()
            raise Ambiguous("the archive has changed since the first part")
        kind = answer.headers.get("content-type", "")
        if "html" in kind or "json" in kind:
            raise Ambiguous("an answer that is not an archive")
        if not start:  # else a kill could leave the old bytes beside the new ETag
            part.unlink(missing_ok=True)
        write_json(_note(part), {"etag": answer.headers.get("etag"), "total": total})
        with part.open("ab") as out:
            # As they come: blocks of one size would lose what came before a break.
            for block in answer.iter_bytes():
                out.write(block)
    size = part.stat().st_size
    if total is not None and size != total:
        if size > total:
            part.unlink()
        raise Ambiguous(f"{size} of {total} bytes came")


def _bounds(answer: httpx.Response, have: int) -> tuple[int, int | None]:
    """Where an answer starts, and the size of the whole archive, if it says so."""
    if answer.status_code == 206:
        found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if found is None or int(found[1]) != have:
            raise Ambiguous("a part of the archive that was not asked for")
        return have, int(found[3])
    length = answer.headers.get("content-length", "")
    return 0, int(length) if length.isdigit() else None


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def unpack(archive: Path, folder: Path, most_bytes: float) -> Path:
    """Unpacks an archive into a new folder; nothing can land outside of it.

    Args:
        archive: A ``tar`` packed by zstd or gzip.
        folder: Made anew.
        most_bytes: Most bytes that may come out of it.

    Returns:
        The folder inside that holds ``adapter_config.json``.

    Raises:
        DataError: The archive is broken, and was removed, so that it is downloaded anew; or it is
            too large, unsafe, or finds no room, and is kept. What was unpacked of it is removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _unpack(archive, folder, most_bytes)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    found = sorted(folder.rglob("adapter_config.json"), key=lambda path: len(path.parts))
    if not found:
        raise DataError(
            "the archive holds no adapter_config.json",
            where=str(archive),
            remedy="see `kedro jobs show` for the checkpoints of the job",
        )
    return found[0].parent


def _unpack(archive: Path, folder: Path, most_bytes: float) -> None:
    """Unpacks all of an archive; removes it if it is broken."""
    import gzip
    import zlib

    import zstandard

    # What the archive itself is to blame for; other errors of the system are not its fault.
    own = (gzip.BadGzipFile, FileExistsError, IsADirectoryError, NotADirectoryError)
    try:
        with archive.open("rb") as raw, _decompressed(raw) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                _extract(tar, folder, most_bytes)
            while stream.read(_BLOCK):  # to the end, so that its checksum is compared
                pass
    except (tarfile.TarError, zstandard.ZstdError, zlib.error, EOFError, *own) as error:
        archive.unlink(missing_ok=True)
        raise DataError(
            f"the downloaded archive is broken ({type(error).__name__})",
            where=str(archive),
            remedy="run again: it was removed and is downloaded anew",
        ) from None
    except OSError as error:
        raise _no_room(error, folder, "unpacked") from None


def _no_room(error: OSError, place: Path, what: str) -> DataError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    why = "there is no room for it" if full else "the system refuses it"
    return DataError(
        f"the adapter cannot be {what}: {why} ({error.strerror or type(error).__name__})",
        where=str(place),
        remedy=("make room on the disk" if full else "correct the cause")
        + ", then run again: what was downloaded is kept",
    )


def _decompressed(raw: IO[bytes]) -> Any:
    import gzip

    import zstandard

    head = raw.read(4)
    raw.seek(0)
    if head == _ZSTD:
        return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)
    return raw


def _extract(tar: tarfile.TarFile, folder: Path, most_bytes: float) -> None:
    """Writes plain files alone; everything else in an archive is refused."""
    left = most_bytes
    for number, member in enumerate(_members(tar)):
        if number >= _MOST_MEMBERS:
            raise _unsafe(f"it holds more than {_MOST_MEMBERS} files")
        place = PurePosixPath(member.name)
        if place.is_absolute() or ".." in place.parts or "\\" in member.name:
            raise _unsafe("it names a place outside of its folder")
        target = folder.joinpath(*place.parts)
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        if not member.isfile():
            raise _unsafe("it holds something that is not a plain file")
        left -= member.size
        if left < 0:
            raise DataError(
                f"the archive is not unpacked: it is larger than together.archive_gb="
                f"{most_bytes / 1e9:g}",
                where="together.archive_gb",
                remedy="if an adapter of that size is right, raise it and run again: the archive "
                "is kept",
            )
        source = tar.extractfile(member)
        assert source is not None
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "wb") as out:
            shutil.copyfileobj(source, out, _BLOCK)
        if target.stat().st_size != member.size:
            raise EOFError


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member


def _unsafe(why: str) -> DataError:
    return DataError(
        f"the archive is not unpacked: {why}",
        where="adapter of the job",
        remedy="report it: no adapter looks like that. Nothing was written outside of the work "
        "folder, and the archive is kept",
    )
