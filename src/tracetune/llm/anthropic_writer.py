"""Text written by a model of Anthropic, in batches or directly; replies are kept, paid once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tracetune.files import sha256_json
from tracetune.llm.anthropic_batches import send_batches, settle_batches
from tracetune.llm.anthropic_direct import send_direct
from tracetune.llm.calls import Service
from tracetune.llm.contracts import Outcome, TextRequest, TextResult
from tracetune.llm.ledger import Contents, Ledger, read_contents
from tracetune.llm.options import LlmOptions
from tracetune.llm.params import request_hash
from tracetune.llm.replies import ReplyBody
from tracetune.llm.schemas import AnswerForm, InvalidAnswer
from tracetune.llm.session import Job, Session, unique

logger = logging.getLogger("tracetune")

TIMES_UNPAID = 2
"""A request that batches gave back unpaid (expired, canceled) this often is not sent again."""

_CUT = frozenset({"max_tokens", "model_context_window_exceeded"})


class AnthropicWriter:
    """Writes with a model of Anthropic.

    A reply that was kept is taken from the ledger and never asked for again; it needs neither key
    nor network. Requests that batches gave back unpaid are sent once more by the next call.

    Args:
        options: Model, mode, budget and limits.
        folder: Where the ledger lies: ``<data>/llm/<tenant>/<name>``.
        api_key: Key of the service; never shown, and asked for only when something is sent.
    """

    def __init__(self, options: LlmOptions, folder: Path, api_key: str | None) -> None:
        self._options = options
        self._folder = folder
        self._api_key = api_key

    def __repr__(self) -> str:
        """Without the key."""
        return f"AnthropicWriter({self._options.model!r}, {str(self._folder)!r})"

    @property
    def label(self) -> str:
        """``Anthropic`` and the model."""
        return f"Anthropic {self._options.model}"

    def known(self, requests: Sequence[TextRequest]) -> set[str]:
        """Ids of the requests whose replies are kept, or that are lost for good."""
        contents = read_contents(self._folder)
        return {
            request.id
            for request in requests
            if _is_final(contents, request_hash(request, self._options))
        }

    def write(self, requests: Sequence[TextRequest]) -> list[TextResult]:
        """One result per request, in the order given.

        Raises:
            ConfigurationError: Key, address, model or a schema are not usable.
            ServerError: The service cannot be reached, or a batch is not done in time.
            DataError: The ledger is broken.
            TracetuneError: Another process works on this tenant and name.
        """
        forms: dict[str, AnswerForm] = {}
        jobs = []
        for request in requests:
            schema = sha256_json(request.answer_schema)
            if schema not in forms:
                forms[schema] = AnswerForm(request.answer_schema)
            jobs.append(Job(request_hash(request, self._options), request, forms[schema]))
        with Ledger(self._folder) as ledger:
            session = Session(self._options, ledger, lambda: Service(self._options, self._api_key))
            try:
                self._obtain(session, unique(jobs))
            finally:
                session.close()
            return [_result(session, job) for job in jobs]

    def _obtain(self, session: Session, jobs: list[Job]) -> None:
        """Gets the replies that are not in the ledger yet."""
        contents = session.ledger.contents
        lost = session.ledger.close_interrupted()
        if lost:
            logger.warning(
                "%d requests were in flight when an earlier run ended; they may have been paid and "
                "are not sent again",
                lost,
            )
        settle_batches(session, {job.hash for job in jobs if not _is_final(contents, job.hash)})
        left = [job for job in jobs if not _is_final(contents, job.hash)]
        if len(left) < len(jobs):
            logger.info("%d of %d replies are kept from before", len(jobs) - len(left), len(jobs))
        if not left:
            return
        offers = session.offers(left)
        if self._options.mode == "batch":
            send_batches(session, offers)
        else:
            send_direct(session, offers)


def _is_final(contents: Contents, key: str) -> bool:
    """Whether a request must not be sent (again)."""
    reply = contents.replies.get(key)
    return (
        key in contents.lost
        or (reply is not None and reply.paid)
        or len(contents.unpaid.get(key, ())) >= TIMES_UNPAID
    )


def _result(session: Session, job: Job) -> TextResult:
    """What became of a job."""
    contents, key, name = session.ledger.contents, job.hash, job.request.id
    reply = contents.replies.get(key)
    if reply is not None and reply.kind == "message":
        usd = contents.sent[key].price.of(reply.usage)
        outcome, value, reason = _interpret(reply, job)
        return TextResult(
            id=name, outcome=outcome, value=value, reason=reason, usage=reply.usage, usd=usd
        )
    if key in contents.lost:
        return TextResult(id=name, outcome="lost", reason=contents.lost[key])
    if key in session.over:
        return TextResult(id=name, outcome="over_budget", reason=session.over[key])
    if key in session.failed:
        return TextResult(id=name, outcome="failed", reason=session.failed[key])
    if reply is not None and reply.kind in ("expired", "canceled"):
        return TextResult(id=name, outcome="expired", reason=reply.reason)
    reason = reply.reason if reply is not None else "the service gave no reason"
    return TextResult(id=name, outcome="failed", reason=reason)


def _interpret(reply: ReplyBody, job: Job) -> tuple[Outcome, object, str]:
    """Outcome, value and reason of a message that was paid."""
    if reply.stop_reason == "refusal":
        return "refused", None, reply.text[:300] or "the model declined without a word"
    if reply.stop_reason in _CUT:
        return "truncated", None, f"the answer was cut ({reply.stop_reason})"
    if reply.stop_reason != "end_turn":
        return "invalid", None, f"the answer ended for another reason: {reply.stop_reason!r}"
    try:
        return "answered", job.form.read(reply.text), ""
    except InvalidAnswer as error:
        return "invalid", None, str(error)
