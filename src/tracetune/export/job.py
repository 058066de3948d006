"""The export from beginning to end: one folder with everything, or an error and nothing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetune.errors import DataError
from tracetune.export import card, gguf_writer, merge, modelfile, parity
from tracetune.export.extra import require
from tracetune.export.gguf_writer import Written
from tracetune.export.merge import Merged, Release
from tracetune.export.modelfile import Modelfile
from tracetune.export.options import ExportOptions
from tracetune.export.runtime import GgufModel
from tracetune.files import atomic_folder, write_json, write_text
from tracetune.training import vllm_check

Document = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What was made, for the card and the manifest.

    Attributes:
        name: Name of the model.
        options: What was asked for.
        context: Longest conversation in tokens.
        release: Where it comes from.
        merged: The merge gate.
        written: The file that is handed out.
        parity: Figures of the gates and of the quantization.
        modelfile: The Ollama file, or why there is none.
        vllm: Whether vLLM serves the adapter as it is.
    """

    name: str
    options: ExportOptions
    context: int
    release: Release
    merged: Merged
    written: Written
    parity: Document
    modelfile: Modelfile
    vllm: Document


def export(adapter: Path, target: Path, *, name: str, options: ExportOptions) -> Document:
    """Exports a released adapter.

    Args:
        adapter: The released model folder.
        target: The folder to make: ``<name>-<quant>.gguf``, ``Modelfile``, ``README.md``,
            ``manifest.json`` and ``adapter``. It appears whole or not at all; large files that are
            needed on the way lie beside it.
        name: Name of the model, part of the file name.
        options: Number format, context, threads.

    Returns:
        The manifest.

    Raises:
        DataError: The release cannot be used, or the disk is full.
        ConfigurationError: Base, tokenizer or number format cannot be exported, or the extra
            ``gguf`` is not installed.
        GateError: The result is not the model that was judged; names string or prompt and figures.
    """
    from safetensors import SafetensorError

    require()
    release = merge.open_release(adapter)
    _remove_left_overs(target)
    try:
        with atomic_folder(target) as folder:
            result = _make(release, folder, name, options)
            return _describe(result, folder)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"the export could not be written ({error}); nothing was left of it",
            where=str(target),
            remedy="free disk space: about ten bytes per weight of the model are needed",
        ) from error


def _remove_left_overs(target: Path) -> None:
    """What a killed export left beside the target; it never counted as a model."""
    for path in target.parent.glob(f".{target.name}.*.partial"):
        shutil.rmtree(path, ignore_errors=True)


def _make(release: Release, folder: Path, name: str, options: ExportOptions) -> Result:
    """Merges, converts, checks, quantizes; leaves the one GGUF file in ``folder``."""
    scratch, threads = folder / "scratch", options.threads
    merged = merge.merge(release, scratch / "model")
    known = parity.reference(scratch / "model", release.serving["instruction"], options.nll_tokens)
    figures: Document = {"nll": {"tokens": known.count, "hugging_face": known.nll}}
    written = None
    for kind in dict.fromkeys(("f32", "f16", options.quant)):
        final = kind == options.quant
        path = (folder if final else scratch) / f"{name}-{kind}.gguf"
        written = gguf_writer.write(scratch / "model", path, kind, name=name, threads=threads)
        with GgufModel(path, threads=threads, context=known.longest) as model:
            figures[kind] = _checked(model, known, written)
            if kind != "f32":
                figures["nll"][kind] = parity.negative_log_likelihood(model, known)
        if not final:
            path.unlink()
    assert written is not None
    context = min(options.context, written.context)
    special = known.tokenizer.convert_ids_to_tokens(written.words.special["eot"])
    ollama = modelfile.write(
        written.path,
        known.tokenizer,
        instruction=release.serving["instruction"],
        context=context,
        end=special,
        add_bos=written.words.add_bos,
    )
    shutil.rmtree(scratch)
    return Result(
        name=name,
        options=options,
        context=context,
        release=release,
        merged=merged,
        written=written,
        parity=figures,
        modelfile=ollama,
        vllm=vllm_check.check(release.folder, Path(release.base.path)),
    )


def _checked(model: GgufModel, known: parity.Reference, written: Written) -> Document:
    """The gates of one file, or what quantization changed."""
    kind = written.kind
    found: Document = {
        "texts": parity.check_tokens(model, known, written.words.normalizer),
        "prompts": len(known.prompts),
    }
    if kind in parity.LIMITS:
        found["max_delta"] = parity.check_probabilities(model, known, kind)
        found["limit"] = parity.LIMITS[kind]
        found["greedy_equal"] = parity.greedy_equal(model, known, kind)
    else:
        found["max_delta"] = parity.largest_delta(model, known)[0]
        found["greedy_equal"] = parity.greedy_equal(model, known)
    return found


def _describe(result: Result, folder: Path) -> Document:
    """Writes everything beside the GGUF file; the manifest last, over all of it."""
    shutil.copytree(result.release.folder, folder / "adapter")
    if result.modelfile.text is not None:
        write_text(folder / "Modelfile", result.modelfile.text)
    manifest = card.manifest(result, folder)
    write_text(folder / "README.md", card.readme(result, manifest))
    manifest["files"] = card.files(folder)
    write_json(folder / "manifest.json", manifest)
    return manifest
