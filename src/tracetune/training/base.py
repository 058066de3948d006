"""The base model: where it comes from, and what proves that it is the same one tomorrow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tracetune.errors import ConfigurationError, DataError, ServerError
from tracetune.files import read_json, sha256_file, sha256_json, sha256_text
from tracetune.training import profiles, quiet
from tracetune.training.options import BaseModelOptions, EmbeddedRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
UNKNOWN = "unknown"
"""Stands for a hash that nobody here can tell."""

_HUB_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "merges.txt", "tokenizer.model"]


Kind = Literal["embedded", "local", "hub", "hosted"]
Hash = Annotated[str, Field(pattern=r"^([0-9a-f]{64}|unknown)$")]


class BaseModelRef(BaseModel):
    """A base model, with the hashes an adapter is bound to.

    It is on this machine, or (``hosted``) with a service that trains on it and shows no weights:
    then what cannot be known is ``unknown``.

    Attributes:
        id: ``embedded``, a Hugging Face id, or the name of a local folder.
        revision: Commit of the hub, or hash of the recipe of the embedded model; null for a folder.
        path: Folder with weights and tokenizer; of a hosted model the folder with its tokenizer, or
            empty. Machine-dependent, never part of a job's hash.
        profile: Recommended settings in use.
        kind: Where it came from.
        weights_sha256: Over the names and contents of its safetensors files.
        tokenizer_sha256: Over its tokenizer files.
        template_sha256: Of the text of its chat template; of an encoder, over the files that say
            how text becomes a vector (modules, pooling, prompts).
        parameters: Number of weights; None for a hosted model.
        hosted: Id of the hosted model that it is, or is a copy of; None if nobody named one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    revision: str | None
    path: str
    profile: str
    kind: Kind
    weights_sha256: Hash
    tokenizer_sha256: Hash
    template_sha256: Hash
    parameters: int | None = Field(gt=0)
    hosted: str | None = None

    @property
    def here(self) -> bool:
        """Whether its weights are on this machine."""
        return self.kind != "hosted"

    def identity(self) -> dict[str, Any]:
        """What makes it this model, without the place where it lies or the settings in use."""
        return self.model_dump(exclude={"path", "profile", "hosted"})


def resolve(
    options: BaseModelOptions,
    cache_root: Path,
    recipe: EmbeddedRecipe | None = None,
    *,
    hosted: bool = False,
) -> BaseModelRef:
    """Finds, fetches or builds the base model and hashes it.

    Args:
        options: Which model.
        cache_root: Folder under which an embedded model is kept by the hash of its recipe.
        recipe: How the embedded model is made.
        hosted: It is trained by a service: an id that is no folder is one of the service's, and
            nothing of it is fetched unless ``options.local`` names a copy.

    Raises:
        ConfigurationError: The id, revision or profile cannot be used.
        ServerError: The model is not on this machine and the hub did not give it.
    """
    profile = profiles.choose(options.id, options.profile)
    if options.id == "embedded":
        from tracetune.training.embedded import build, recipe_hash

        if options.revision is not None:
            raise ConfigurationError(
                "the embedded model has no revisions; its recipe decides",
                where="base_model.revision",
                remedy="set it to null, or change the recipe",
            )
        recipe = recipe or EmbeddedRecipe()
        folder = build(recipe, cache_root)
        return describe(folder, options.id, recipe_hash(recipe)[:16], profile.name, "embedded")
    local = Path(options.id).expanduser()
    if options.local is not None:
        return _copy(options, cache_root, recipe, profile.name)
    if hosted and not local.is_dir() and not options.id.startswith((".", "/", "~")):
        return _hosted(options, profile.name)
    if local.is_dir():
        if options.revision is not None:
            raise ConfigurationError(
                f"{options.id!r} is a local folder, which has no revisions",
                where="base_model.revision",
                remedy="set it to null",
            )
        return describe(local.resolve(), local.resolve().name, None, profile.name, "local")
    if options.id.startswith((".", "/", "~")) or options.id.count("/") > 1:
        raise ConfigurationError(
            f"there is no folder {options.id!r}",
            where="base_model.id",
            remedy="give an existing folder, a Hugging Face id (owner/name), or 'embedded'",
        )
    folder = from_hub(options.id, options.revision, where="base_model.id")
    return describe(folder, options.id, folder.name, profile.name, "hub")


def _copy(
    options: BaseModelOptions, cache_root: Path, recipe: EmbeddedRecipe | None, profile: str
) -> BaseModelRef:
    """The copy on this machine that ``base_model.local`` names, or its tokenizer alone."""
    named = options.local or ""
    folder = Path(named).expanduser()
    weights = folder.is_dir() and any(folder.glob("*.safetensors"))
    if not weights and any((folder / name).is_file() for name in TOKENIZER_FILES):
        return _hosted(options, profile, folder.resolve())
    own = BaseModelOptions(id=named, revision=options.revision, profile=profile)
    try:
        found = resolve(own, cache_root, recipe)
    except ConfigurationError as error:
        where = (error.where or "").replace("base_model.id", "base_model.local")
        raise ConfigurationError(error.what, where=where, remedy=error.remedy) from None
    return found.model_copy(update={"hosted": options.id})


def _hosted(options: BaseModelOptions, profile: str, folder: Path | None = None) -> BaseModelRef:
    """A model that a service has and this machine has not; ``folder`` may hold its tokenizer."""
    if options.revision is not None:
        raise ConfigurationError(
            f"{options.id!r} is a hosted model, whose revision the service chooses",
            where="base_model.revision",
            remedy="set it to null",
        )
    tokens = template = UNKNOWN
    if folder is not None:
        tokens = _tokenizer_sha256(folder)
        chat = load_tokenizer(folder).chat_template
        template = sha256_text(chat) if isinstance(chat, str) else UNKNOWN
    return BaseModelRef(
        id=options.id,
        revision=None,
        path="" if template == UNKNOWN else str(folder),
        profile=profile,
        kind="hosted",
        weights_sha256=UNKNOWN,
        tokenizer_sha256=tokens,
        template_sha256=template,
        parameters=None,
        hosted=options.id,
    )


def demand_here(ref: BaseModelRef) -> None:
    """Refuses a base model whose weights are not on this machine.

    Raises:
        ConfigurationError: It is a hosted one.
    """
    if not ref.here:
        raise not_here(ref.id)


def not_here(model_id: str) -> ConfigurationError:
    """The error for a hosted base model that is needed here."""
    return ConfigurationError(
        f"the base model {model_id} is hosted: its weights are not on this machine",
        where="base_model.local",
        remedy="name a local copy of it there (a folder or a Hugging Face id), then run again: "
        "what was trained stays",
    )


def from_hub(model_id: str, revision: str | None, *, where: str) -> Path:
    """The folder of a model of the hub, fetched first if this machine does not have it.

    Args:
        model_id: ``owner/name``.
        revision: Branch, tag or commit; None for the newest.
        where: The parameter that named it, for messages.

    Raises:
        ConfigurationError: The hub has no such model or revision.
        ServerError: It is not here and the hub could not be reached.
    """
    quiet.private()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=_HUB_PATTERNS))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise ConfigurationError(
            f"the model hub has no {model_id!r}{at}, or it needs a login",
            where=where,
            remedy="check the name; for a gated model accept its terms and set HF_TOKEN",
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ServerError(
            f"{model_id!r} is not in the local hub cache and the hub could not be reached",
            where=where,
            remedy="connect once, copy the model into a folder and give that, or use 'embedded'",
        ) from error


def describe(
    folder: Path,
    model_id: str,
    revision: str | None,
    profile: str,
    kind: Kind,
) -> BaseModelRef:
    """Hashes the model in ``folder``.

    Raises:
        ConfigurationError: There are no safetensors, no tokenizer, or no chat template.
    """
    where = f"base_model.id ({folder})"
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise ConfigurationError(
            "the folder has no config.json with *.safetensors beside it",
            where=where,
            remedy="save the model with save_pretrained(); pickled weights are not loaded",
        )
    if read_json(folder / "config.json").get("auto_map"):
        raise ConfigurationError(
            "the model brings its own Python code, which is never run",
            where=where,
            remedy="choose an architecture that transformers implements itself",
        )
    tokenizer = load_tokenizer(folder)
    if not isinstance(tokenizer.chat_template, str):
        raise ConfigurationError(
            "the tokenizer has no chat template, so a conversation has no one rendering",
            where=where,
            remedy="use the instruction-tuned variant, or add chat_template.jinja to the folder",
        )
    return BaseModelRef(
        id=model_id,
        revision=revision,
        path=str(folder),
        profile=profile,
        kind=kind,
        weights_sha256=weights_sha256(folder),
        tokenizer_sha256=_tokenizer_sha256(folder),
        template_sha256=sha256_text(tokenizer.chat_template),
        parameters=count_parameters(sorted(folder.glob("*.safetensors"))),
    )


def _tokenizer_sha256(folder: Path) -> str:
    return sha256_json(
        [[n, sha256_file(folder / n)] for n in TOKENIZER_FILES if (folder / n).is_file()]
    )


def weights_sha256(folder: Path) -> str:
    """Hash over the names and contents of the safetensors files of a model."""
    return sha256_json(
        [[path.name, sha256_file(path)] for path in sorted(folder.glob("*.safetensors"))]
    )


def count_parameters(files: Iterable[Path]) -> int:
    """Number of weights in safetensors files; tied weights are stored, and count, once."""
    from math import prod

    from safetensors import safe_open

    total = 0
    for path in files:
        with safe_open(path, framework="pt") as tensors:
            names: list[str] = list(tensors.keys())
            total += sum(prod(tensors.get_slice(name).get_shape()) for name in names)
    return total


def verify(ref: BaseModelRef) -> None:
    """Checks that the weights, tokenizer and template at ``ref.path`` still are the hashed ones.

    Raises:
        DataError: Files are missing or differ.
        ConfigurationError: It is a hosted model, which is not here.
    """
    demand_here(ref)
    check_same(describe(Path(ref.path), ref.id, ref.revision, ref.profile, ref.kind), ref)


def check_same(found: BaseModelRef, ref: BaseModelRef) -> None:
    """Refuses a base whose files are not the hashed ones any more.

    Raises:
        DataError: They differ; names the part.
    """
    for part in ("weights_sha256", "tokenizer_sha256", "template_sha256"):
        if getattr(found, part) != getattr(ref, part):
            raise DataError(
                f"the base model has changed since its hash was taken ({part})",
                where=ref.path,
                remedy="restore the model, or train again with the model as it is now",
            )


def load_tokenizer(base: BaseModelRef | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model, without touching the network.

    Raises:
        ConfigurationError: The model is hosted, and no folder with its tokenizer is named.
    """
    if isinstance(base, BaseModelRef) and not base.path:
        raise not_here(base.id)
    with quiet.offline():
        from transformers import AutoTokenizer

        path = base.path if isinstance(base, BaseModelRef) else str(base)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, local_files_only=True
        )
        return tokenizer


def load_model(
    base: BaseModelRef,
    adapter: Path | None = None,
    *,
    dtype: str = "float32",
    trainable: bool = False,
) -> PreTrainedModel:
    """The base model, with ``adapter`` on top if one is given; on the CPU, in evaluation mode.

    Args:
        base: The base model.
        adapter: Folder of a LoRA adapter made for this base.
        dtype: Type of the base weights; adapter weights are float32.
        trainable: Whether the adapter's weights get gradients.

    Raises:
        ConfigurationError: The model is hosted, so its weights are not here.
    """
    demand_here(base)
    with quiet.offline(), quiet.quiet():
        import torch
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(
            base.path,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter), is_trainable=trainable)
        model.eval()
        loaded: PreTrainedModel = model
        return loaded
