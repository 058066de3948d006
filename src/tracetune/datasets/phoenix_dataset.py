"""The telemetry of one tenant: a live Phoenix server, and the snapshot kept beside it."""

from __future__ import annotations

from pathlib import Path

from tracetune.datasets.handle_dataset import HandleDataset
from tracetune.errors import DataError
from tracetune.telemetry.options import TelemetryOptions
from tracetune.telemetry.snapshot import SnapshotManifest, read_manifest


class PhoenixTelemetry:
    """A handle on the telemetry of one tenant. Nothing is read until it is asked for.

    Args:
        folder: Where the snapshot lies, or will lie.
        api_key: Key of the server; never shown.
    """

    def __init__(self, folder: Path, api_key: str | None) -> None:
        self.folder = folder
        self._api_key = api_key

    def __repr__(self) -> str:
        """Without the key."""
        return f"PhoenixTelemetry({str(self.folder)!r})"

    def read_server(self, options: TelemetryOptions) -> SnapshotManifest:
        """Reads the project from the live server into the snapshot and returns its manifest.

        A snapshot of the same content stays as it is, byte for byte.
        """
        from tracetune.telemetry.phoenix import PhoenixProject

        project = PhoenixProject(options.url, options.project, api_key=self._api_key)
        return project.save_snapshot(
            self.folder, anchor=options.anchor, read_days=options.read_days
        )

    def read_snapshot(self, options: TelemetryOptions) -> SnapshotManifest:
        """The manifest of the snapshot on disk, verified against its files.

        Raises:
            DataError: If there is no snapshot, a file is broken, or it holds another project.
        """
        if not self.folder.is_dir():
            tenants = sorted(
                path.parent.name for path in self.folder.parent.parent.glob("*/telemetry")
            )
            raise DataError(
                "there is no telemetry of this tenant",
                where=str(self.folder),
                remedy=f"check --params=tenant=… (tenants with telemetry: "
                f"{', '.join(tenants) or 'none'}), or read a server: kedro run --pipeline=phoenix",
            )
        manifest = read_manifest(self.folder)
        if manifest.project != options.project:
            raise DataError(
                f"the snapshot holds project {manifest.project!r}, not {options.project!r}",
                where=str(self.folder / "snapshot.json"),
                remedy="set telemetry.project, or read the server: kedro run --pipeline=phoenix",
            )
        return manifest


class PhoenixDataset(HandleDataset[PhoenixTelemetry]):
    """Telemetry of a tenant in an Arize Phoenix server, kept as a Parquet snapshot.

    Loading gives a handle; which server and project it reads, and over which window, are
    parameters (``telemetry``), so that one catalog entry serves live telemetry and snapshots.

    Example:
        ```yaml
        phoenix:
          type: tracetune.datasets.phoenix_dataset.PhoenixDataset
          filepath: data/01_raw/demo/telemetry
          credentials: phoenix
        ```
    """

    not_saved = "telemetry is read, never written"

    def make(self, folder: Path, api_key: str | None) -> PhoenixTelemetry:
        """The handle."""
        return PhoenixTelemetry(folder, api_key)

    def found(self, folder: Path) -> bool:
        """Whether there is a snapshot."""
        return (folder / "snapshot.json").is_file()
