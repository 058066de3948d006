"""Rows made from other rows stand where those stand; and by which groups a model was fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracetune.errors import DataError
from tracetune.files import sha256_json
from tracetune.near_rows import PromptRow
from tracetune.splits import SplitManifest, make_manifest


def add_derived_rows(
    manifest: SplitManifest, added: Sequence[PromptRow], origin: Mapping[str, str]
) -> SplitManifest:
    """A manifest with rows that were made from some of its rows, each on the side of its origin.

    Args:
        manifest: The manifest; what it says of its rows stays.
        added: The further rows.
        origin: For the id of each added row the id of the row it was made from.

    Raises:
        DataError: An id stands twice, or the manifest does not know an origin.
    """
    places = dict(manifest.rows)
    for row in added:
        if row.id in places:
            raise DataError(f"a row id stands twice: {row.id}", where="split manifest")
        found = manifest.place(origin[row.id])
        places[row.id] = found.model_copy(update={"group": row.provenance.group})
    return make_manifest(
        manifest.method, places, manifest.options, manifest.seed, manifest.test_start
    )


def fitted_groups(manifest: SplitManifest) -> str:
    """Hex SHA-256 of the groups that a model of this manifest is trained on or chosen by.

    Of two models with the same hash none has seen a group that the other holds out.
    """
    sides = ("train", "validation")
    return sha256_json(
        sorted({place.group for place in manifest.rows.values() if place.split in sides})
    )
