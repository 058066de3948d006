"""A model folder as a GGUF file, for Llama, Qwen2 and Qwen3.

One pass over the tensors, one tensor in memory at a time. What llama.cpp cannot compute in the same
way is refused by name; what is written is then compared with the model (:mod:`.parity`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.errors import ConfigurationError
from tracetune.export import quantize, vocabulary
from tracetune.export.vocabulary import Vocabulary

if TYPE_CHECKING:
    import numpy

ARCHITECTURES = {
    "LlamaForCausalLM": "LLAMA",
    "Qwen2ForCausalLM": "QWEN2",
    "Qwen3ForCausalLM": "QWEN3",
}
"""GGUF's names of the architectures that have a converter here."""

ROPE_FREQUENCIES = "rope_freqs.weight"


@dataclass(frozen=True)
class Written:
    """What stands in a file.

    Attributes:
        path: The file.
        kind: Number format of the file.
        types: How many tensors have which type.
        fell_back: Tensors whose rows do not fit the wanted type: name → (wanted, used).
        words: The tokenizer as it was written.
        architecture: GGUF's name of it.
        context: Longest sequence that the model was made for, in tokens.
    """

    path: Path
    kind: str
    types: dict[str, int]
    fell_back: dict[str, tuple[str, str]]
    words: Vocabulary
    architecture: str
    context: int


class Source:
    """A model folder, checked for what can be converted.

    Args:
        folder: Folder with config, safetensors and tokenizer.

    Raises:
        ConfigurationError: The architecture has no converter, or a setting is not supported.
    """

    def __init__(self, folder: Path) -> None:
        """Reads configuration, names and shapes; no weights."""
        from gguf import MODEL_ARCH, get_tensor_name_map

        self.folder = folder
        self.config: Any = read_config(folder)
        self.architecture = architecture(self.config, folder)
        self.layers: int = self.config.num_hidden_layers
        self.heads: int = self.config.num_attention_heads
        self.kv_heads: int = self.config.num_key_value_heads
        self.head_width: int = (
            getattr(self.config, "head_dim", None) or self.config.hidden_size // self.heads
        )
        self.rope: dict[str, Any] = _rope(self.config, self.architecture, folder)
        names = get_tensor_name_map(MODEL_ARCH[self.architecture], self.layers)
        self.names: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in _shapes(folder):
            if name == "lm_head.weight" and self.config.tie_word_embeddings:
                continue
            mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if mapped is None:
                raise ConfigurationError(
                    f"the tensor {name!r} has no place in a GGUF file of {self.architecture}",
                    where=str(folder),
                    remedy="export a plain model of a supported architecture",
                )
            self.names[name] = mapped
            self.shapes[mapped] = tuple(shape)

    def tensors(self) -> Iterator[tuple[str, numpy.ndarray[Any, Any]]]:
        """GGUF name and float32 weights of every tensor, in the order of :attr:`shapes`."""
        from safetensors import safe_open

        for path in sorted(self.folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as weights:
                for name in weights.keys():  # noqa: SIM118 - the handle is no mapping
                    if name in self.names:
                        values = weights.get_tensor(name).float().numpy()
                        yield self.names[name], self._rows(name, values)

    def _rows(self, name: str, values: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
        """Rows as llama.cpp wants them: its Llama turns neighbouring pairs, transformers halves."""
        part = name.rsplit(".", 2)[-2]
        if self.architecture != "LLAMA" or part not in ("q_proj", "k_proj"):
            return values
        heads = self.heads if part == "q_proj" else self.kv_heads
        halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)


def _shapes(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes of all weights of a folder, in the order of its files; nothing is loaded."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - the handle is no mapping
                yield name, weights.get_slice(name).get_shape()


def read_config(folder: Path) -> Any:
    """The configuration of a model folder as transformers understands it."""
    from tracetune.training import quiet

    with quiet.offline():
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )


def architecture(config: Any, folder: Path) -> str:
    """GGUF's name of the architecture.

    Raises:
        ConfigurationError: It has no converter here; names those that have.
    """
    named = (config.architectures or ["an unnamed architecture"])[0]
    if named not in ARCHITECTURES:
        raise ConfigurationError(
            f"{named} has no converter to GGUF in this project",
            where=str(folder / "config.json"),
            remedy=f"choose a base model of one of these: {', '.join(ARCHITECTURES)}",
        )
    wrong = {
        name: value
        for name, value, plain in (
            ("hidden_act", config.hidden_act, config.hidden_act == "silu"),
            (
                "use_sliding_window",
                getattr(config, "use_sliding_window", False),
                not getattr(config, "use_sliding_window", False),
            ),
        )
        if not plain
    }
    if wrong:
        raise ConfigurationError(
            f"the converter of {named} does not know {wrong}",
            where=str(folder / "config.json"),
            remedy="export a model with hidden_act 'silu' and no sliding window",
        )
    return ARCHITECTURES[named]


def _rope(config: Any, name: str, folder: Path) -> dict[str, Any]:
    """Parameters of the rotary embedding."""
    found = dict(config.rope_parameters or {})
    kind = found.get("rope_type", "default")
    partial = found.get("partial_rotary_factor") or 1.0
    if kind not in ("default", "llama3") or (kind == "llama3" and name != "LLAMA") or partial != 1:
        raise ConfigurationError(
            f"the rotary embedding {kind!r} (share {partial}) of {name} is not converted",
            where=f"{folder / 'config.json'}: rope_parameters",
            remedy="export a model with rope_type 'default', or 'llama3' for Llama",
        )
    return found


def rope_factors(rope: dict[str, Any], width: int) -> numpy.ndarray[Any, Any]:
    """Divisors of the frequencies of Llama 3's rotary embedding, shape (width / 2,).

    Long waves are slowed down by ``factor``, short ones left alone, those between mixed
    (``rope_type: llama3``).
    """
    import numpy

    factor, old = rope["factor"], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    found = []
    for pair in range(0, width, 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (pair / width)
        if wave < old / high:
            found.append(1.0)
        elif wave > old / low:
            found.append(float(factor))
        else:
            smooth = (old / wave - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return numpy.array(found, dtype=numpy.float32)


def write(model: Path, target: Path, kind: str, *, name: str, threads: int = 1) -> Written:
    """Writes a model folder as GGUF.

    Args:
        model: Folder with config, safetensors and tokenizer.
        target: The file; the caller sees to it that a part of it never counts.
        kind: One of :data:`tracetune.export.quantize.KINDS`.
        name: Name of the model, for people.
        threads: CPU threads of quantization; they do not change the file.

    Raises:
        ConfigurationError: Architecture, tokenizer or number format are not supported.
    """
    import numpy
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES

    source = Source(model)
    words = vocabulary.read(model, source.config.vocab_size)
    choices = quantize.choose(source.shapes, kind, source.layers)
    writer = GGUFWriter(target, MODEL_ARCH_NAMES[MODEL_ARCH[source.architecture]])
    _add_shape(writer, source, name, kind)
    _add_words(writer, words)
    factors = None
    if source.rope.get("rope_type") == "llama3":
        factors = rope_factors(source.rope, source.head_width)
        writer.add_tensor_info(ROPE_FREQUENCIES, factors.shape, factors.dtype, factors.nbytes)
    any_type = numpy.dtype(numpy.float32)  # not read where the GGML type is given
    for tensor, shape in source.shapes.items():
        used = choices[tensor].used
        writer.add_tensor_info(
            tensor, shape, any_type, quantize.size(shape, used), GGMLQuantizationType[used]
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for tensor, values in source.tensors():
            writer.write_tensor_data(quantize.encode(values, choices[tensor].used, threads))
    finally:
        writer.close()
    return Written(
        path=target,
        kind=kind,
        types=dict(sorted(Counter(choice.used for choice in choices.values()).items())),
        fell_back={
            tensor: (choice.wanted, choice.used)
            for tensor, choice in choices.items()
            if choice.wanted != choice.used
        },
        words=words,
        architecture=source.architecture,
        context=source.config.max_position_embeddings,
    )


def _add_shape(writer: Any, source: Source, name: str, kind: str) -> None:
    from gguf import GGML_QUANT_VERSION

    config = source.config
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(quantize.FILE_TYPES[kind])
    if kind not in ("f16", "f32"):
        writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(source.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(source.heads)
    writer.add_head_count_kv(source.kv_heads)
    writer.add_key_length(source.head_width)
    writer.add_value_length(source.head_width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(source.rope["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if source.architecture == "LLAMA":
        writer.add_rope_dimension_count(source.head_width)


def _add_words(writer: Any, words: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    writer.add_token_merges(words.merges)
    for role, number in words.special.items():
        getattr(writer, f"add_{role}_token_id")(number)
    # Without this key llama.cpp decides by the splitting rule and may add a beginning silently.
    writer.add_add_bos_token(words.add_bos)
    writer.add_chat_template(words.template)
