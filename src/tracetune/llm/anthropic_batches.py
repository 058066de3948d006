"""Batch mode: Message Batches, created once each whatever happens to the process or the network.

The service keeps no name of ours on a batch and no key against a second creation. So the intent
is on disk before a batch is created, every ``custom_id`` starts with the token of the intent, and
after anything that leaves the creation in doubt the batches of the account are looked through.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tracetune.errors import ConfigurationError, ServerError
from tracetune.files import canonical_json
from tracetune.hosted_calls import Ambiguous, Missing, NotTaken, Refused
from tracetune.llm.anthropic_results import collect, first_custom_id
from tracetune.llm.contracts import Unfinished
from tracetune.llm.entries import Created, Gone, Round, Void
from tracetune.llm.ledger import Batch
from tracetune.llm.session import Offer, Session
from tracetune.runs import utc_now

logger = logging.getLogger("tracetune")

LOOKS = 3
"""How often the batches are looked through, ``poll_seconds`` apart: a listing may lag."""

_KNOWN = 20
_LONGEST_SKEW = timedelta(days=1)
"""No clock is that wrong: older batches are not looked at."""
_MOST_BYTES = 200_000_000
"""The service takes 256 MB in a batch."""
_SECONDS_BETWEEN_LINES = 60.0


def custom_id(token: str, request_hash: str) -> str:
    """The id of a request in a batch: token and 40 digits of its hash, 53 characters."""
    return f"{token}-{request_hash[:40]}"


def settle_batches(session: Session, wanted: set[str]) -> None:
    """Brings batches of earlier runs to an end, if a wanted request is in them.

    Raises:
        Unfinished: A batch is not done before the deadline.
        ServerError: The service cannot be reached.
    """
    for batch in session.ledger.contents.open_batches():
        if not any(planned.hash in wanted for planned in batch.round.requests):
            continue
        if not batch.id:
            logger.info("Looking for a batch that an interrupted run may have created")
            if not _adopt(session, batch):
                reason = "the run was interrupted, and no batch of it is found at the service"
                session.ledger.append(
                    [Void(time=utc_now(), token=batch.round.token, reason=reason)]
                )
                continue
        _finish(session, batch)


def send_batches(session: Session, offers: Sequence[Offer]) -> None:
    """Sends the offers in rounds that fit into the budget, and collects the replies.

    Raises:
        ServerError: As :func:`settle_batches`.
        ConfigurationError: The key is refused.
    """
    left = list(offers)
    while left:
        chosen, over = _choose(session, left)
        session.over.update(over if not chosen else {})
        if not chosen:
            return
        batch = _create(session, chosen)
        if batch is not None:
            _finish(session, batch)
        taken = {offer.job.hash for offer in chosen}
        left = [offer for offer in left if offer.job.hash not in taken]


def _choose(session: Session, left: list[Offer]) -> tuple[list[Offer], dict[str, str]]:
    """The next round, and why others do not fit into the budget now."""
    budget, size = session.budget(), 0
    chosen: list[Offer] = []
    over = {}
    for offer in left:
        usd = offer.planned.max_usd
        size += len(canonical_json(offer.params).encode())
        if len(chosen) == session.options.batch_size or (chosen and size > _MOST_BYTES):
            break
        if budget.fits(usd):
            budget.used += usd
            chosen.append(offer)
        else:
            over[offer.job.hash] = budget.shortage(usd)
    return chosen, over


def _create(session: Session, offers: list[Offer]) -> Batch | None:
    """Creates the batch of a round, once. None if the service refuses it for good."""
    newest, _ = session.batches(None)
    announced = Round(
        time=utc_now(),
        token=secrets.token_hex(6),
        model=session.options.model,
        price=session.price,
        known=[str(item["id"]) for item in newest[:_KNOWN]],
        requests=[offer.planned for offer in offers],
    )
    session.ledger.append([announced])
    batch = session.ledger.contents.batches[announced.token]
    body = [
        {"custom_id": custom_id(announced.token, offer.job.hash), "params": offer.params}
        for offer in offers
    ]
    try:
        created = _create_once(session, batch, body)
    except Refused as error:
        for offer in offers:
            session.failed[offer.job.hash] = str(error)
        _void(session, batch, str(error))
        return None
    if created:
        logger.info("Batch %s with %d requests is on its way", batch.id, len(offers))
    return batch


def _create_once(session: Session, batch: Batch, body: list[dict[str, Any]]) -> bool:
    """Creates the batch; looks for it before every further attempt. False if it was found."""
    attempt, in_doubt = 0, False
    while True:
        asked = None
        try:
            created = session.service.create_batch(body)
        except Ambiguous as error:
            in_doubt, reason = True, str(error)
        except NotTaken as error:
            asked, reason = error.wait, str(error)
            in_doubt = in_doubt or error.failed
        except (Refused, ConfigurationError) as error:
            if in_doubt:
                raise _in_doubt(session, str(error)) from None
            if isinstance(error, ConfigurationError):
                _void(session, batch, error.what)
            raise
        else:
            _save(session, batch, created["id"], adopted=False)
            return True
        logger.warning("The batch was not confirmed: %s", reason)
        more = session.retry.wait(attempt, asked)
        if _adopt(session, batch, looks=LOOKS if in_doubt else 1):
            return False
        if not more:
            if in_doubt:
                raise _in_doubt(session, reason)
            _void(session, batch, reason)
            raise ServerError(
                f"no batch could be created: {reason}",
                where=session.service.address,
                remedy="run again later; nothing was paid",
            )
        attempt += 1


def _in_doubt(session: Session, reason: str) -> ServerError:
    return ServerError(
        f"it is not known whether the batch was created: {reason}",
        where=session.service.address,
        remedy="run again: the batch is looked for before another one is created",
    )


def _void(session: Session, batch: Batch, reason: str) -> None:
    session.ledger.append([Void(time=utc_now(), token=batch.round.token, reason=reason)])


def _save(session: Session, batch: Batch, batch_id: str, *, adopted: bool) -> None:
    session.ledger.append(
        [Created(time=utc_now(), token=batch.round.token, batch=batch_id, adopted=adopted)]
    )


def _adopt(session: Session, batch: Batch, looks: int = LOOKS) -> bool:
    """Looks for the batch of a round among those of the account, and takes it if it is there."""
    strangers: set[str] = set()
    for look in range(looks):
        if look and session.stop.wait(session.options.poll_seconds):
            break
        for candidate in _candidates(session, batch, strangers):
            if _is_ours(session, batch, candidate):
                _save(session, batch, candidate["id"], adopted=True)
                logger.info("Batch %s was found and is taken over", batch.id)
                return True
            strangers.add(candidate["id"])
    return False


def _candidates(session: Session, batch: Batch, strangers: set[str]) -> list[dict[str, Any]]:
    """Batches that are newer than the intent and have as many requests."""
    mine = {other.id for other in session.ledger.contents.batches.values() if other.id}
    return [
        item
        for item in _newer(session, batch.round)
        if sum(item["request_counts"].values()) == len(batch.round.requests)
        and item["id"] not in mine | strangers
    ]


def _newer(session: Session, announced: Round) -> Iterator[dict[str, Any]]:
    """Batches of the account, newest first, until one that was there before the intent."""
    oldest = datetime.fromisoformat(announced.time) - _LONGEST_SKEW
    after: str | None = None
    while True:
        page, more = session.batches(after)
        for item in page:
            if item["id"] in announced.known or _created_at(item) < oldest:
                return
            yield item
        if not more or not page or page[-1]["id"] == after:
            return
        after = page[-1]["id"]


def _created_at(item: dict[str, Any]) -> datetime:
    try:
        moment = datetime.fromisoformat(str(item.get("created_at")))
    except ValueError:
        return datetime.now(UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_ours(session: Session, batch: Batch, candidate: dict[str, Any]) -> bool:
    """Whether the results of a batch carry our token; they exist only when it has ended."""
    if candidate["processing_status"] != "ended":
        logger.info("Batch %s may be ours; that shows when it has ended", candidate["id"])
    try:
        _wait(session, candidate["id"])
        found = first_custom_id(session, candidate["id"])
    except Missing:
        return False
    return found.startswith(f"{batch.round.token}-")


def _finish(session: Session, batch: Batch) -> None:
    """Waits for a batch and collects its replies."""
    hashes = {custom_id(batch.round.token, item.hash): item.hash for item in batch.round.requests}
    try:
        ended = _wait(session, batch.id)
        collect(session, batch, hashes, ended["request_counts"])
    except Missing as error:
        reason = f"the service no longer has batch {batch.id} or its results ({error})"
        logger.warning("%s", reason)
        session.ledger.append([Gone(time=utc_now(), token=batch.round.token, reason=reason)])


def _wait(session: Session, batch_id: str) -> dict[str, Any]:
    """The batch when it has ended; a status that is not known counts as under way.

    Raises:
        Unfinished: The deadline has passed.
        Missing: It is gone.
    """
    said, shown = 0.0, ""
    while True:
        found = session.ask("looking at the batch", lambda: session.service.batch(batch_id))
        status = str(found["processing_status"])
        if status == "ended":
            return found
        now = time.monotonic()
        if now + session.options.poll_seconds > session.until:
            raise Unfinished(
                f"the batch has not ended after llm.deadline_hours="
                f"{session.options.deadline_hours:g} (status {status})",
                where=f"batch {batch_id}",
                remedy="run again: the same batch is picked up, nothing is paid twice",
            )
        if status != shown or now - said >= _SECONDS_BETWEEN_LINES:
            said, shown = now, status
            logger.info("Batch %s: %s, %s", batch_id, status, _counts(found["request_counts"]))
        session.stop.wait(session.options.poll_seconds)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
