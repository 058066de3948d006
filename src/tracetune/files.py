"""Files: atomic writes, canonical JSON, and content hashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """``value`` as JSON with sorted keys and no whitespace: equal values give equal text."""
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def pretty_json(value: Any) -> str:
    """``value`` as indented JSON with sorted keys and a final newline, for files people read."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=2, allow_nan=False) + "\n"


def sha256_text(text: str) -> str:
    """Hex SHA-256 of ``text`` as UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of ``value``."""
    return sha256_text(canonical_json(value))


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the bytes of a file, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_folder(folder: Path, *, skip: frozenset[str] = frozenset()) -> str:
    """Hex SHA-256 over the relative names and contents of all files below ``folder``.

    Args:
        folder: The folder to hash.
        skip: Names of files which are left out (for example a status written later).
    """
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return sha256_json(
        [[name, sha256_file(folder / name)] for name in names if Path(name).name not in skip]
    )


def sync(path: Path) -> None:
    """Brings a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``target`` which becomes ``target`` if the block succeeds.

    A kill at any moment leaves either the old file or the new one, never a part. What an earlier
    kill left behind carries the suffix ``.partial`` and never counts as data.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` to ``path`` atomically as readable JSON."""
    write_text(path, pretty_json(value))


def read_json(path: Path) -> Any:
    """The JSON document in ``path``."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder beside ``target`` which becomes ``target`` if the block succeeds.

    An existing ``target`` is moved aside first and removed afterwards; rename of a folder onto a
    full one does not exist, so for the length of one rename the name is absent.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(
        tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    )
    try:
        yield temporary
        temporary.chmod(0o755)
        for path in temporary.rglob("*"):
            if path.is_file():
                sync(path)
        if target.exists():
            old = Path(
                tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
            )
            target.rename(old / "old")
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def end_of_lines(descriptor: int) -> int:
    """Length of a file up to and with its last line feed; a kill may have cut what stands after."""
    end = os.fstat(descriptor).st_size
    block = 1 << 16
    while end > 0:
        start = max(0, end - block)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def append_bytes(descriptor: int, data: bytes) -> None:
    """Appends all of ``data`` and waits until it is on disk.

    If it cannot be written as a whole (a full disk), the file is as long as before.

    Raises:
        OSError: It cannot be written.
    """
    size, view = os.fstat(descriptor).st_size, memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    os.fsync(descriptor)
