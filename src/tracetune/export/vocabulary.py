"""The tokenizer of a model folder in the words of GGUF.

llama.cpp does not read ``tokenizer.json``: it has its own splitting rules by name
(``tokenizer.ggml.pre``). The name is found from the rules that stand in the file, never from the
name of the model, and an unknown rule is an error; the parity gate then compares token ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetune.errors import ConfigurationError
from tracetune.files import read_json

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {
    _WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _WORDS + r"\p{N}" + _REST: "qwen2",
}
"""Names of llama.cpp by the expression with which a tokenizer splits text."""

SUPPORTED = "byte-level BPE that splits text like GPT-2, SmolLM, Llama 3 or Qwen2"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and rules, ready to be written.

    Attributes:
        tokens: Text of each token, in the order of the ids.
        types: GGUF type of each token.
        merges: Merge rules, best first.
        pre: llama.cpp's name of the splitting rule.
        add_bos: Whether the tokenizer itself puts a beginning-of-sequence token before a text.
        special: Ids by role: ``bos``, ``eos``, ``pad``, ``eot``; only those that exist.
        template: The chat template.
        normalizer: Unicode form that the tokenizer makes of a text first and llama.cpp does not.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str
    add_bos: bool
    special: dict[str, int]
    template: str
    normalizer: str | None


def read(folder: Path, size: int) -> Vocabulary:
    """Reads the tokenizer of a model folder.

    Args:
        folder: Folder with ``tokenizer.json``.
        size: Vocabulary of the model; what the tokenizer lacks is filled with unused tokens.

    Raises:
        ConfigurationError: llama.cpp has no rule that treats text in the same way.
    """
    from transformers import GenerationConfig

    from tracetune.evaluation.generate import end_of_turn_ids
    from tracetune.training.base import load_tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise _refused(path, "there is no tokenizer.json")
    found = read_json(path)
    pre, normalizer = pre_tokenizer(found, path), _normalizer(found, path)
    tokenizer: Any = load_tokenizer(folder)
    settings = None
    if (folder / "generation_config.json").is_file():
        settings = GenerationConfig.from_pretrained(str(folder))
    tokens, types = _tokens(found, size, path)
    special = {
        role: getattr(tokenizer, f"{role}_token_id")
        for role in ("bos", "eos", "pad")
        if getattr(tokenizer, f"{role}_token_id") is not None
    }
    special["eot"] = end_of_turn_ids(tokenizer, settings)[0]
    return Vocabulary(
        tokens=tokens,
        types=types,
        merges=[m if isinstance(m, str) else " ".join(m) for m in found["model"]["merges"]],
        pre=pre,
        add_bos=_adds_bos(tokenizer, path),
        special=special,
        template=tokenizer.chat_template,
        normalizer=normalizer,
    )


def pre_tokenizer(found: dict[str, Any], path: Path) -> str:
    """llama.cpp's name for the way in which a ``tokenizer.json`` splits text.

    Args:
        found: Content of the file.
        path: The file, for messages.

    Raises:
        ConfigurationError: There is none.
    """
    model = found["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise _refused(path, f"its model is {model.get('type')} and not byte-level BPE")
    rule = found.get("pre_tokenizer") or {}
    steps = rule["pretokenizers"] if rule.get("type") == "Sequence" else [rule]
    kinds = [step.get("type") for step in steps]
    last = steps[-1]
    if kinds[-1] != "ByteLevel" or last.get("add_prefix_space"):
        raise _refused(path, f"it splits text by {' and '.join(map(str, kinds))}")
    name = None
    if len(steps) == 1 and last.get("use_regex", True):
        name = "gpt-2"
    elif kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        name = "smollm" if last.get("use_regex", True) else None
    elif kinds == ["Split", "ByteLevel"] and not last.get("use_regex", True):
        plain = steps[0].get("behavior") == "Isolated" and not steps[0].get("invert")
        name = SPLITS.get(steps[0]["pattern"].get("Regex", "")) if plain else None
    if name is None:
        raise _refused(path, f"its way of splitting text ({', '.join(map(str, kinds))}) is unknown")
    if bool(model.get("ignore_merges")) and name != "llama-bpe":
        raise _refused(path, "it takes whole words before merges, which only Llama 3's rule does")
    return name


def _tokens(found: dict[str, Any], size: int, path: Path) -> tuple[list[str], list[int]]:
    from gguf import TokenType

    by_id = {number: token for token, number in found["model"]["vocab"].items()}
    types = dict.fromkeys(by_id, TokenType.NORMAL)
    for added in found.get("added_tokens", []):
        by_id[added["id"]] = added["content"]
        control = added.get("special", False)
        types[added["id"]] = TokenType.CONTROL if control else TokenType.USER_DEFINED
    if max(by_id) >= size:
        raise _refused(path, f"it has token {max(by_id)}, the model only {size} tokens")
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(size)]
    return tokens, [int(types.get(number, TokenType.UNUSED)) for number in range(size)]


def _adds_bos(tokenizer: Any, path: Path) -> bool:
    """Whether a plain text gets a beginning; an added end has no counterpart in a chat."""
    with_special = tokenizer("a")["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    if with_special == plain:
        return False
    if with_special == [tokenizer.bos_token_id, *plain]:
        return True
    raise _refused(path, f"it adds tokens to a text other than a beginning: {with_special}")


def _normalizer(found: dict[str, Any], path: Path) -> str | None:
    rule = found.get("normalizer")
    if rule is None:
        return None
    if rule.get("type") != "NFC":
        raise _refused(path, f"it changes text first ({rule.get('type')}), llama.cpp does not")
    return "NFC"


def _refused(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"this tokenizer cannot be written as GGUF: {why}",
        where=str(path),
        remedy=f"export a model with {SUPPORTED}",
    )
