"""Direct mode: one request after the other, several at a time, none of them sent twice.

A refusal that the service itself gives costs nothing, so it may be tried again. What was sent and
got no whole reply may have been paid: it is ``lost``, and stays so after a restart.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from tracetune.errors import ConfigurationError
from tracetune.hosted_calls import Ambiguous, Missing, NotTaken, Refused
from tracetune.llm.calls import Service
from tracetune.llm.entries import Entry, Intent, Lost, Reply, Unpaid
from tracetune.llm.session import Budget, Offer, Session
from tracetune.runs import utc_now

logger = logging.getLogger("tracetune")

_SECONDS_BETWEEN_LINES = 10.0


def send_direct(session: Session, offers: Sequence[Offer]) -> None:
    """Sends the offers that fit into the budget; what becomes of them stands in the ledger.

    Where several requests share a cached text, one of each goes ahead, so that the others find it.

    Raises:
        ConfigurationError: The key is refused, or the model is unknown.
    """
    ahead: dict[str, Offer] = {}
    for offer in offers:
        if "cache_control" in offer.params["system"][0]:
            ahead.setdefault(offer.job.request.system, offer)
    first = list(ahead.values())
    sender = _Sender(session, total=len(offers))
    try:
        sender.run(first)
        sender.run([offer for offer in offers if offer not in first])
    except BaseException:
        session.stop.set()
        raise


class _Sender:
    """Sends from several threads; budget and order are the business of the calling thread."""

    def __init__(self, session: Session, total: int) -> None:
        self._session = session
        self._service: Service = session.service
        self._budget: Budget = session.budget()
        self._write = threading.Lock()
        self._total, self._done, self._said = total, 0, time.monotonic()

    def run(self, offers: Sequence[Offer]) -> None:
        waiting = deque(offers)
        running: dict[Future[None], Offer] = {}
        with ThreadPoolExecutor(self._session.options.concurrency) as pool:
            try:
                while waiting or running:
                    self._start(waiting, running, pool)
                    if not running:
                        continue
                    done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._settle(running.pop(future))
                        future.result()
                    self._say()
            except BaseException:
                # Ctrl-C too, and before the pool waits for its threads: they finish what they
                # sent, and send and wait no more.
                self._session.stop.set()
                raise

    def _start(
        self, waiting: deque[Offer], running: dict[Future[None], Offer], pool: ThreadPoolExecutor
    ) -> None:
        """Starts what fits; what cannot fit any more is over budget."""
        while waiting and len(running) < self._session.options.concurrency:
            offer = waiting[0]
            usd = offer.planned.max_usd
            if not self._budget.fits(usd):
                if running:
                    return  # those under way will have cost less than was reserved for them
                self._session.over[waiting.popleft().job.hash] = self._budget.shortage(usd)
                continue
            self._budget.used += usd
            running[pool.submit(self._send, offer)] = waiting.popleft()

    def _settle(self, offer: Offer) -> None:
        """Puts what the request cost in place of what was reserved."""
        contents, key = self._session.ledger.contents, offer.job.hash
        reply = contents.replies.get(key)
        self._done += 1
        self._budget.used -= offer.planned.max_usd
        if key in contents.lost or key in contents.open:
            self._budget.used += offer.planned.max_usd
        elif reply is not None and reply.kind == "message":
            self._budget.used += contents.sent[key].price.of(reply.usage)

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            logger.info("%d of %d requests answered", self._done, self._total)

    def _append(self, entry: Entry) -> None:
        with self._write:
            self._session.ledger.append([entry])

    def _send(self, offer: Offer) -> None:
        """Sends one request until it is taken, refused, or lost."""
        key, session, attempt = offer.job.hash, self._session, 0
        while not session.stop.is_set():
            self._append(
                Intent(
                    time=utc_now(),
                    model=session.options.model,
                    price=session.price,
                    request=offer.planned,
                )
            )
            try:
                text = self._service.message(offer.params)
            except NotTaken as error:
                self._unpaid(key, str(error))
                if not session.retry.wait(attempt, error.wait):
                    session.failed[key] = f"{error} (after {attempt + 1} attempts)"
                    return
                attempt += 1
            except Refused as error:
                self._unpaid(key, str(error))
                if isinstance(error, Missing):
                    raise session.missing(error) from None
                session.failed[key] = str(error)
                return
            except Ambiguous as error:
                self._append(Lost(time=utc_now(), hash=key, reason=str(error)))
                logger.warning("Request %s is lost: %s", offer.planned.id, error)
                return
            except ConfigurationError as error:
                self._unpaid(key, error.what)
                raise
            else:
                self._append(Reply(time=utc_now(), hash=key, text=text))
                return
        session.failed[key] = "not sent: the run was stopped"

    def _unpaid(self, key: str, reason: str) -> None:
        self._append(Unpaid(time=utc_now(), hash=key, reason=reason))
