"""Parameters of training at Together AI, as they stand in ``conf/base/parameters_together.yml``."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tracetune.hosted_calls import is_address
from tracetune.options import Options


class TogetherOptions(Options):
    """How jobs run at Together AI.

    The key is not here: it belongs to ``conf/local/credentials.yml`` (``together.api_key``).
    """

    model: str | None = Field(
        None,
        min_length=1,
        description="Id of the hosted model that is trained; None: the one that the model table "
        "knows for base_model.id. The local base must be a copy of it.",
    )
    budget_usd: float = Field(
        10.0, ge=0, description="Most that all jobs of one tenant and name may cost."
    )
    redact: bool = Field(
        True, description="Replace secrets and personal data before a text leaves the machine."
    )
    packing: bool = Field(
        True,
        description="Several short rows share one sequence. Without it the service bills every row "
        "as max_length tokens.",
    )
    evaluations: int = Field(
        5, ge=0, description="Evaluations during training if there are validation rows; billed."
    )
    base_url: str | None = Field(None, description="Address of the service; None: the vendor's.")
    timeout: float = Field(60.0, gt=0, description="Seconds without an answer before giving up.")
    attempts: int = Field(6, ge=1, description="Tries of a call that costs nothing.")
    poll_seconds: float = Field(20.0, gt=0, description="Between two looks at a file or job.")
    file_minutes: float = Field(30.0, gt=0, description="Longest wait for a file to be checked.")
    settle_seconds: float = Field(
        60.0,
        ge=0,
        description="How long a job whose creation is in doubt is looked for in the list of jobs, "
        "which may lag, before another one may be created.",
    )
    wait_minutes: float | None = Field(
        60.0,
        ge=0,
        description="Longest wait of one run for a job; after that the stage ends as 'waiting' and "
        "a later run goes on. None: until the job has ended.",
    )
    deadline_hours: float = Field(
        48.0, gt=0, description="A job that has not ended this long after its start is stuck."
    )
    judge_on: Literal["local", "endpoint"] = Field(
        "local",
        description="Where the trained models are asked: on a local copy of the base, or at an "
        "endpoint of Together AI, which is billed by the minute and deleted in the end.",
    )
    project: str | None = Field(
        None, min_length=1, description="Project for endpoints; None: the one that the key names."
    )
    endpoint_minutes: float = Field(
        60.0, gt=0, description="Longest time that an endpoint is used, from its creation on."
    )
    archive_gb: float = Field(20.0, gt=0, description="Largest adapter that is unpacked, in GB.")

    @field_validator("base_url")
    @classmethod
    def _address(cls, given: str | None) -> str | None:
        if given is None:
            return None
        if not is_address(given):
            raise ValueError("give an http(s) address of a host, or null for the vendor's own")
        if urlsplit(given).path.rstrip("/"):
            raise ValueError("give the address without a path: the client adds /v1 itself")
        return given.rstrip("/")
