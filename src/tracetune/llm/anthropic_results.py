"""Results of a batch: downloaded whole or not at all, and put into the ledger as they came."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from tracetune.errors import ServerError
from tracetune.hosted_calls import Ambiguous, NotTaken
from tracetune.llm.entries import Collected, Reply
from tracetune.llm.ledger import Batch
from tracetune.llm.session import Session
from tracetune.runs import utc_now

logger = logging.getLogger("tracetune")


def first_custom_id(session: Session, batch_id: str) -> str:
    """The ``custom_id`` of any one result; empty if the batch has none.

    Raises:
        Missing: The results are gone.
    """

    def read() -> str:
        with closing(session.service.result_lines(batch_id)) as lines:
            line = next(lines, None)
            if line is None:
                return ""
            found = _custom_id(line)
        if found is None:
            raise Ambiguous("results whose first line is cut")
        return found

    return session.ask("reading the results", read)


def collect(session: Session, batch: Batch, hashes: dict[str, str], counts: dict[str, int]) -> None:
    """Downloads the results of a batch that has ended until they are whole; puts them on disk.

    A connection that ends early can look like the end of the results. So every request of the batch
    must have its line; only then do the lines go into the ledger.

    Args:
        session: Where it happens.
        batch: The batch.
        hashes: ``custom_id`` → request hash of all its requests.
        counts: What the service counted, by type of result.

    Raises:
        ServerError: The results did not come whole at any attempt.
        Missing: The results are gone.
    """
    part = session.ledger.part(batch)
    part.parent.mkdir(parents=True, exist_ok=True)
    attempt = 0
    while True:
        asked: float | None = None
        lines: dict[str, str] = {}
        try:
            _download(session, batch.id, part)
        except (Ambiguous, NotTaken) as error:
            asked, problem = getattr(error, "wait", None), str(error)
        else:
            lines, problem = _read(part, hashes)
        if not problem:
            break
        logger.warning("The results of batch %s are not whole: %s", batch.id, problem)
        if not session.retry.wait(attempt, asked):
            raise ServerError(
                f"the results did not come whole in {attempt + 1} attempts: {problem}",
                where=f"batch {batch.id}",
                remedy="run again: the results are fetched again, nothing is paid twice",
            )
        attempt += 1
    _compare(batch.id, lines, counts)
    now = utc_now()
    session.ledger.append(
        [
            *(
                Reply(time=now, hash=hashes[name], batch=batch.id, text=text)
                for name, text in sorted(lines.items())
            ),
            Collected(time=now, token=batch.round.token),
        ]
    )
    part.unlink()


def _download(session: Session, batch_id: str, part: Path) -> None:
    with part.open("wb") as handle:
        for line in session.service.result_lines(batch_id):
            handle.write(line)
        handle.flush()
        os.fsync(handle.fileno())


def _read(part: Path, hashes: dict[str, str]) -> tuple[dict[str, str], str]:
    """The line of every request by ``custom_id``, and what is wrong with the file.

    Of lines with the same id the first counts; lines with an id that was not sent are left out.
    """
    lines: dict[str, str] = {}
    twice = unknown = 0
    for raw in part.read_bytes().split(b"\n"):
        if not raw.strip():
            continue
        name = _custom_id(raw)
        if name is None:
            return {}, f"a line is cut or is no result: {raw[:40]!r}"
        if name not in hashes:
            unknown += 1
        elif name in lines:
            twice += 1
        else:
            lines[name] = raw.decode("utf-8", "replace")
    missing = len(hashes) - len(lines)
    if missing:
        return {}, f"{missing} of {len(hashes)} results are missing"
    if twice or unknown:
        logger.warning(
            "The results held %d repeated lines and %d of requests that were not sent; "
            "they are left out",
            twice,
            unknown,
        )
    return lines, ""


def _compare(batch_id: str, lines: dict[str, str], counts: dict[str, int]) -> None:
    """Says how many results of each type came, and whether the service counted others."""
    found: Counter[str] = Counter(json.loads(text)["result"]["type"] for text in lines.values())
    expected = {name: count for name, count in counts.items() if count}
    logger.info(
        "Batch %s: %s",
        batch_id,
        ", ".join(f"{count} {name}" for name, count in sorted(found.items())),
    )
    if dict(found) != expected:
        logger.warning(
            "The service counted %s; the results themselves are what counts here", expected
        )


def _custom_id(raw: bytes) -> str | None:
    """The id of a whole line of results; None if it is not one."""
    try:
        row: Any = json.loads(raw)
    except ValueError:
        return None
    whole = isinstance(row, dict) and isinstance(row.get("result"), dict)
    if not whole or not isinstance(row["result"].get("type"), str):
        return None
    name = row.get("custom_id")
    return name if isinstance(name, str) else None
