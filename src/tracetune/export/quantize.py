"""Number formats of GGUF and which tensor gets which: the recipes of llama.cpp.

The blocks are made by ggml itself (``ggml_quantize_chunk`` in the library of xllamacpp), so a file
is the same as one made with llama.cpp's own tool (reference ``export.md``, section 4).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tracetune.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy

KINDS = ("q4_k_m", "q5_k_m", "q6_k", "q8_0", "f16", "f32")
"""What a whole file can be; ``f32`` serves the gates and is never handed out."""

_MATRICES = {
    "q4_k_m": "Q4_K",
    "q5_k_m": "Q5_K",
    "q6_k": "Q6_K",
    "q8_0": "Q8_0",
    "f16": "F16",
    "f32": "F32",
}
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}
"""``general.file_type``."""

_SUPER_BLOCK, _BLOCK = 256, 32
_ROWS_AT_ONCE = 1 << 22
"""Weights that one call quantizes; rows are independent, so the result is the same."""


@dataclass(frozen=True)
class Choice:
    """The type of one tensor.

    Attributes:
        wanted: What the recipe says.
        used: What the length of its rows allows.
    """

    wanted: str
    used: str


def choose(shapes: Mapping[str, Sequence[int]], kind: str, layers: int) -> dict[str, Choice]:
    """The type of every tensor of a model.

    Args:
        shapes: Shapes by GGUF name, rows last as in numpy.
        kind: One of :data:`KINDS`.
        layers: Number of transformer blocks.

    Raises:
        ConfigurationError: The model cannot be stored that way.
    """
    if kind not in KINDS:
        raise ConfigurationError(
            f"there is no number format {kind!r}",
            where="export.quant",
            remedy=f"choose one of {', '.join(KINDS[:-1])}",
        )
    _refuse_special_recipes(shapes, kind, layers)
    tied = "output.weight" not in shapes
    chosen = {}
    for name, shape in shapes.items():
        wanted = "F32" if len(shape) == 1 else _wanted(name, kind, layers, tied)
        chosen[name] = Choice(wanted, _possible(wanted, shape[-1]))
    matrices = {name: choice for name, choice in chosen.items() if len(shapes[name]) > 1}
    if kind not in ("f16", "f32") and all(c.used == "F16" for c in matrices.values()):
        lengths = sorted({shapes[name][-1] for name in matrices})
        raise ConfigurationError(
            f"no matrix of the model can be stored as {kind}: its rows have {lengths} weights, and "
            f"quantized blocks hold {_BLOCK} or {_SUPER_BLOCK}",
            where="export.quant",
            remedy="choose export.quant=f16, or a base model whose width is a multiple of 32",
        )
    return chosen


def _refuse_special_recipes(shapes: Mapping[str, Sequence[int]], kind: str, layers: int) -> None:
    """llama.cpp has recipes of their own for experts and for models of 80 blocks."""
    if not kind.endswith("_k_m"):
        return
    experts = any("_exps" in name for name in shapes)
    if experts or layers == 80:
        what = "a mixture of experts" if experts else "a model of 80 blocks (70B)"
        raise ConfigurationError(
            f"{kind} has another recipe for {what}, which this project does not have",
            where="export.quant",
            remedy="choose q6_k, q8_0 or f16",
        )


def _wanted(name: str, kind: str, layers: int, tied: bool) -> str:
    normal = _MATRICES[kind]
    if kind not in ("q4_k_m", "q5_k_m"):
        return normal
    if name == ("token_embd.weight" if tied else "output.weight"):
        return "Q6_K"
    if name.endswith((".attn_v.weight", ".ffn_down.weight")):
        return "Q6_K" if _more_bits(int(name.split(".")[1]), layers) else normal
    return normal


def _more_bits(layer: int, layers: int) -> bool:
    """The first and last eighth of the blocks, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _possible(wanted: str, row: int) -> str:
    if wanted in ("F32", "F16"):
        return wanted
    if wanted in _FALLBACK and row % _SUPER_BLOCK:
        wanted = _FALLBACK[wanted]
    return "F16" if row % _BLOCK else wanted


@cache
def _library() -> ctypes.CDLL:
    """The library of xllamacpp, which exports ggml."""
    from xllamacpp import xllamacpp

    library = ctypes.CDLL(xllamacpp.__file__)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
    ]
    library.ggml_row_size.restype = ctypes.c_size_t
    library.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    library.ggml_quantize_init.argtypes = [ctypes.c_int]
    return library


def size(shape: Sequence[int], used: str) -> int:
    """Bytes of a tensor of this shape and type."""
    from math import prod

    from gguf import GGMLQuantizationType

    row: int = _library().ggml_row_size(int(GGMLQuantizationType[used]), shape[-1])
    return row * prod(shape[:-1])


def encode(values: numpy.ndarray[Any, Any], used: str, threads: int) -> numpy.ndarray[Any, Any]:
    """The weights of a tensor in a number format.

    Args:
        values: float32.
        used: Name of a GGML type.
        threads: CPU threads; they do not change the result.

    Returns:
        The array itself, float16, or the bytes of the blocks.
    """
    import numpy
    from gguf import GGMLQuantizationType

    if used == "F32":
        return values
    if used == "F16":
        return values.astype(numpy.float16)
    kind, library = int(GGMLQuantizationType[used]), _library()
    rows, width = values.size // values.shape[-1], values.shape[-1]
    source = numpy.ascontiguousarray(values, dtype=numpy.float32)
    target = numpy.empty(size(values.shape, used), dtype=numpy.uint8)
    row_bytes = len(target) // rows
    library.ggml_quantize_init(kind)  # its tables, before threads ask for them
    step = max(1, _ROWS_AT_ONCE // width)

    def part(start: int) -> None:
        library.ggml_quantize_chunk(
            kind,
            source.ctypes.data + start * width * 4,
            target.ctypes.data + start * row_bytes,
            0,
            min(step, rows - start),
            width,
            None,
        )

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, range(0, rows, step)))
    return target
