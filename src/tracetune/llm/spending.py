"""What was spent by a tenant and name, read from the ledger; needs no key and no network."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tracetune.llm.contracts import Usage
from tracetune.llm.ledger import Contents, Sent, read_contents
from tracetune.records import Record


class Part(Record):
    """Spending of one model in one mode.

    Attributes:
        model: Model id.
        mode: ``batch`` or ``direct``.
        requests: Replies that were paid.
        usage: Their tokens.
        usd: Their cost by the price table of the day they were sent; an estimate.
        lost_requests: Requests without a reply; they may have been paid.
        lost_usd: The most that those can have cost; not in ``usd``.
        open_requests: Requests under way: a batch that has not been collected, or a run at work.
        open_usd: The most that those can cost; not in ``usd``.
    """

    model: str
    mode: str
    requests: int = 0
    usage: Usage = Usage()
    usd: float = 0.0
    lost_requests: int = 0
    lost_usd: float = 0.0
    open_requests: int = 0
    open_usd: float = 0.0


class Spending(Record):
    """Everything that was spent; fields as in :class:`Part`, over all models and modes.

    Attributes:
        parts: The same by model and mode.
    """

    requests: int = 0
    usage: Usage = Usage()
    usd: float = 0.0
    lost_requests: int = 0
    lost_usd: float = 0.0
    open_requests: int = 0
    open_usd: float = 0.0
    parts: list[Part] = Field(default_factory=list)

    @property
    def most_usd(self) -> float:
        """The most that can have been spent: paid, lost and under way."""
        return self.usd + self.lost_usd + self.open_usd

    def since(self, before: Spending) -> Spending:
        """What came on top of ``before``; what is under way is given as it is now."""
        earlier = {(part.model, part.mode): part for part in before.parts}
        parts = [
            _difference(part, earlier.get((part.model, part.mode), Part(model="", mode="")))
            for part in self.parts
        ]
        return _total(
            [part for part in parts if part.requests or part.lost_requests or part.open_requests]
        )


def spent(folder: Path) -> Spending:
    """What was spent by the ledger in ``folder``; nothing if there is none.

    Another process may be at work on it.

    Raises:
        DataError: A line of the ledger is broken.
    """
    return spending_of(read_contents(folder))


def spending_of(contents: Contents) -> Spending:
    """What was spent by a ledger in memory."""
    found: dict[tuple[str, str], Part] = {}

    def book(sent: Sent, **amounts: int | float | Usage) -> None:
        part = found.get((sent.model, sent.mode), Part(model=sent.model, mode=sent.mode))
        usage = amounts.pop("usage", Usage())
        assert isinstance(usage, Usage)
        changed = {name: getattr(part, name) + value for name, value in amounts.items()}
        found[sent.model, sent.mode] = part.model_copy(
            update={**changed, "usage": _plus(part.usage, usage)}
        )

    for key, body in contents.replies.items():
        if body.kind == "message":
            sent = contents.sent[key]
            book(sent, requests=1, usd=sent.price.of(body.usage), usage=body.usage)
    for key in contents.lost:
        book(contents.sent[key], lost_requests=1, lost_usd=contents.sent[key].planned.max_usd)
    under_way = set(contents.open)
    for batch in contents.open_batches():
        under_way |= {planned.hash for planned in batch.round.requests}
    for key in sorted(under_way):
        reply = contents.replies.get(key)
        if reply is None or not reply.paid:
            book(contents.sent[key], open_requests=1, open_usd=contents.sent[key].planned.max_usd)
    return _total([found[key] for key in sorted(found)])


def _total(parts: list[Part]) -> Spending:
    usage = Usage()
    for part in parts:
        usage = _plus(usage, part.usage)
    return Spending(
        requests=sum(part.requests for part in parts),
        usage=usage,
        usd=sum(part.usd for part in parts),
        lost_requests=sum(part.lost_requests for part in parts),
        lost_usd=sum(part.lost_usd for part in parts),
        open_requests=sum(part.open_requests for part in parts),
        open_usd=sum(part.open_usd for part in parts),
        parts=parts,
    )


def _plus(first: Usage, second: Usage, sign: int = 1) -> Usage:
    return Usage(
        **{name: getattr(first, name) + sign * getattr(second, name) for name in Usage.model_fields}
    )


def _difference(now: Part, before: Part) -> Part:
    return Part(
        model=now.model,
        mode=now.mode,
        requests=now.requests - before.requests,
        usage=_plus(now.usage, before.usage, -1),
        usd=now.usd - before.usd,
        lost_requests=now.lost_requests - before.lost_requests,
        lost_usd=now.lost_usd - before.lost_usd,
        open_requests=now.open_requests,
        open_usd=now.open_usd,
    )
