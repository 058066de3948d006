"""Models the project builds itself, kept by the hash of their recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tracetune.files import atomic_folder, sha256_json, write_json
from tracetune.options import Options
from tracetune.training import embedded_text, quiet


def recipe_hash(recipe: Options, libraries: Sequence[str], **parts: Any) -> str:
    """SHA-256 over everything that decides the weights.

    Args:
        recipe: How the model is made.
        libraries: Libraries whose versions can change it.
        **parts: What else does: the number of the code's version, a template.
    """
    from importlib import metadata

    return sha256_json(
        {
            "recipe": recipe.model_dump(mode="json"),
            "corpus": embedded_text.corpus_files(),
            "versions": {name: metadata.version(name) for name in libraries},
            **parts,
        }
    )


def cached(recipe: Options, digest: str, folder: Path, make: Callable[[Path], float]) -> Path:
    """``folder``, made first if it is not there; it appears whole or not at all.

    Args:
        recipe: How the model is made.
        digest: Its :func:`recipe_hash`.
        folder: Where the model lies.
        make: Fills a folder and gives the final loss.
    """
    if (folder / "recipe.json").is_file():
        return folder
    with quiet.offline(), quiet.quiet(), atomic_folder(folder) as temporary:
        loss = make(temporary)
        write_json(
            temporary / "recipe.json",
            {"hash": digest, "recipe": recipe.model_dump(mode="json"), "final_loss": loss},
        )
    return folder
