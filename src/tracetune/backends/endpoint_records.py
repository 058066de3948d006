"""Endpoints of one tenant and name that were opened for a judgement, as this machine knows them.

An endpoint is billed by the minute until it is deleted, so its record is on disk before it is asked
for, and says ``deleted`` only when the service has it no more.
"""

from __future__ import annotations

import math
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tracetune.errors import DataError
from tracetune.files import read_json, write_json

FOLDER = "endpoints"
IDLE_MINUTES = 30
"""The service stops a deployment by itself after so long without a request: its least value."""


class EndpointRecord(BaseModel):
    """One endpoint.

    Attributes:
        format: Version of this document.
        base_url: Address of the service; None: the vendor's own.
        project: Project of the account that it belongs to.
        name: Its name, by which a lost one is found.
        state: ``intended`` (may exist), ``created``, ``deleted``.
        id: The service's id; empty until it is known.
        usd_per_hour: Price of its hardware.
        hardware: What it runs on.
        minutes: Longest time that it is used (``together.endpoint_minutes``).
        intended_at: When it was announced.
        created_at: When it was created or found.
        deleted_at: When it was gone.
        usd: What it cost by the clock of this machine, once it is deleted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    base_url: str | None
    project: str
    name: str = Field(pattern=r"^tt-[0-9a-f]{8}-[0-9a-f]{8}$")
    state: Literal["intended", "created", "deleted"] = "intended"
    id: str = ""
    usd_per_hour: float = Field(ge=0)
    hardware: str
    minutes: float
    intended_at: str
    created_at: str = ""
    deleted_at: str = ""
    usd: float | None = None

    @property
    def most_usd(self) -> float:
        """What it cost, or can cost if nobody deletes it before the service stops it."""
        return most_usd(self.usd_per_hour, self.minutes) if self.usd is None else self.usd

    def cost(self, end: datetime) -> float:
        """What it cost until ``end``: whole minutes since it was announced."""
        start = datetime.fromisoformat(self.intended_at.replace("Z", "+00:00"))
        minutes = math.ceil((end - start).total_seconds() / 60)
        return self.usd_per_hour * min(max(0, minutes), self.minutes + IDLE_MINUTES) / 60


def most_usd(usd_per_hour: float, minutes: float) -> float:
    """Most that an endpoint can cost: its time, and the idle time after which it stops itself."""
    return usd_per_hour * (minutes + IDLE_MINUTES) / 60


class EndpointRecords:
    """The endpoints of a tenant and name.

    Args:
        jobs: ``<data>/jobs/<tenant>/<name>``.
    """

    def __init__(self, jobs: Path) -> None:
        self.folder = jobs / FOLDER

    def all(self) -> list[EndpointRecord]:
        """All endpoints, oldest first."""
        found = [_load(path) for path in sorted(self.folder.glob("tt-*.json"))]
        return sorted(found, key=lambda record: (record.intended_at, record.name))

    def open(self) -> list[EndpointRecord]:
        """Those that may exist at the service."""
        return [record for record in self.all() if record.state != "deleted"]

    def save(self, record: EndpointRecord, **changes: Any) -> EndpointRecord:
        """Changes some fields and writes the record."""
        changed = EndpointRecord.model_validate({**record.model_dump(), **changes})
        write_json(self.folder / f"{changed.name}.json", changed.model_dump(mode="json"))
        return changed

    def ended(self, record: EndpointRecord) -> EndpointRecord:
        """Marks an endpoint as deleted and what it cost; 0 if it never had an id."""
        end = datetime.now(UTC)
        usd = record.cost(end) if record.id else 0.0
        at = end.isoformat(timespec="seconds").replace("+00:00", "Z")
        return self.save(record, state="deleted", deleted_at=at, usd=usd)

    def new_name(self, key: str) -> str:
        """A name that no other endpoint has: not of this machine, nor of one that asks the same.

        Args:
            key: Hash of what it is for.
        """
        return f"tt-{key[:8]}-{secrets.token_hex(4)}"

    def spent(self) -> float:
        """The most that all endpoints cost or can cost, in US dollars."""
        return sum(record.most_usd for record in self.all())


def _load(path: Path) -> EndpointRecord:
    try:
        return EndpointRecord.model_validate(read_json(path))
    except (ValidationError, ValueError) as error:
        raise DataError(
            f"the record of an endpoint cannot be read: {str(error).splitlines()[0]}",
            where=str(path),
            remedy="restore the file from a copy, or see in the console of Together AI whether "
            f"an endpoint {path.stem} is there, delete it, and then remove the file",
        ) from None
