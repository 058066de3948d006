"""The configuration loader: Kedro's own, plus credentials under every environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf


class ProjectConfigLoader(OmegaConfigLoader):
    """Reads ``conf/local/credentials.yml`` whatever ``--env`` says.

    In Kedro an environment replaces ``local``, so that ``--env=gpu`` would lose the keys. Here an
    environment is a kind of machine and credentials belong to the person, so they are always read.
    """

    def __getitem__(self, key: str) -> dict[str, Any]:
        """The merged configuration of one kind (``catalog``, ``parameters``, …)."""
        found: dict[str, Any] = super().__getitem__(key)
        if key == "credentials" and (self.env or self.default_run_env) != "local":
            path = Path(self.conf_source) / "local" / "credentials.yml"
            if path.is_file():
                local = OmegaConf.to_container(OmegaConf.load(path), resolve=True) or {}
                found = {**found, **dict(local)}  # type: ignore[arg-type]
        return found
