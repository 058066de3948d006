"""The lines of the ledger: what was planned, sent, answered and lost, one record per line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tracetune.llm.contracts import Usage
from tracetune.records import Record, Text

Mode = Literal["batch", "direct"]

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of all that decides an answer; see :func:`tracetune.llm.params.request_hash`."""


class Price(Record):
    """US dollars per million tokens, all factors included; booked when a request is sent."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float = Field(ge=0)
    cache_write: float = Field(ge=0)

    def of(self, usage: Usage) -> float:
        """What the tokens cost in US dollars."""
        return (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_read_tokens * self.cache_read
            + usage.cache_write_tokens * self.cache_write
        ) / 1_000_000


class Planned(Record):
    """A request that is about to be sent.

    Attributes:
        hash: Of the request.
        id: Of the request, for people.
        max_usd: The most it can cost.
    """

    hash: Hash
    id: str
    max_usd: float = Field(ge=0)


class Counted(Record):
    """The service counted the tokens of a text; counting is free, and is done once."""

    kind: Literal["counted"] = "counted"
    key: Hash
    tokens: int = Field(ge=0)


class Intent(Record):
    """A direct request is about to be sent. Whatever happens next, this line stands before it."""

    kind: Literal["intent"] = "intent"
    time: str
    model: str
    price: Price
    request: Planned


class Unpaid(Record):
    """The service did not take the direct request, or it never arrived: it cost nothing."""

    kind: Literal["unpaid"] = "unpaid"
    time: str
    hash: Hash
    reason: Text


class Lost(Record):
    """The request was sent and its reply is lost. It may have been paid and is not sent again."""

    kind: Literal["lost"] = "lost"
    time: str
    hash: Hash
    reason: Text


class Reply(Record):
    """What came back, as it came.

    Attributes:
        batch: Id of the batch it came from; empty for a direct reply.
        text: The body of the answer, or the line of the results.
    """

    kind: Literal["reply"] = "reply"
    time: str
    hash: Hash
    batch: str = ""
    text: Text


class Round(Record):
    """A batch is about to be created.

    Attributes:
        token: Marks the batch: every ``custom_id`` in it starts with it.
        known: Ids of the newest batches before it was created; what is newer may be this one.
    """

    kind: Literal["round"] = "round"
    time: str
    token: str = Field(pattern=r"^[0-9a-f]{12}$")
    model: str
    price: Price
    known: list[str]
    requests: list[Planned] = Field(min_length=1)


class Created(Record):
    """The batch of a round exists; ``adopted`` if it was found, not answered to us."""

    kind: Literal["created"] = "created"
    time: str
    token: str
    batch: str = Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")
    adopted: bool


class Collected(Record):
    """All replies of the batch are in the ledger."""

    kind: Literal["collected"] = "collected"
    time: str
    token: str


class Void(Record):
    """The batch of a round was never created: nothing was paid."""

    kind: Literal["void"] = "void"
    time: str
    token: str
    reason: Text


class Gone(Record):
    """The batch is no longer at the service: its replies are lost and may have been paid."""

    kind: Literal["gone"] = "gone"
    time: str
    token: str
    reason: Text


Entry = Annotated[
    Counted | Intent | Unpaid | Lost | Reply | Round | Created | Collected | Void | Gone,
    Field(discriminator="kind"),
]
