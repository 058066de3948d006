"""Only trained positions go through the output matrix, on a CPU too.

TRL scores the positions with a label where Triton runs, and elsewhere every position, prompts and
padding included, because devices that compile want fixed shapes (``add_fused_lm_head`` of
``trl/trainer/utils.py``, TRL 1.16). A CPU compiles nothing: with a prompt of 300 tokens and an
answer of 20 most of the time went into numbers that are thrown away. Loss and gradients are the
same up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def trained_positions_only() -> Iterator[None]:
    """While it lasts, TRL's trainers compute probabilities at trained positions alone."""
    from trl.trainer import utils

    places: Any = utils
    of_triton = places._use_triton
    places._use_triton = lambda device: device.type == "cpu" or of_triton(device)
    try:
        yield
    finally:
        places._use_triton = of_triton
