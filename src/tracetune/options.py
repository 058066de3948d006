"""The base of all parameter models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Parameters as they stand in ``conf/``: immutable, unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
