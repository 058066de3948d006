"""Determinism: seeds, threads and deterministic algorithms, restored afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def deterministic(seed: int, threads: int) -> Iterator[None]:
    """Fixes every source of chance inside the block.

    Random states, the number of threads and the choice of algorithms of the surrounding process
    are put back, so that training in the process of a pipeline changes nothing else in it.

    Args:
        seed: Seed of Python, numpy and torch.
        threads: CPU threads; the order of a parallel sum depends on it.
    """
    import random

    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    threads_before = torch.get_num_threads()
    memory: Any = torch.utils.deterministic  # its flags are set on the module's class
    fill = memory.fill_uninitialized_memory
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng():
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(True, warn_only=True)
            # Filling fresh memory finds faults in kernels; it changes no result and costs time.
            memory.fill_uninitialized_memory = False
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            torch.set_num_threads(threads_before)
            memory.fill_uninitialized_memory = fill
            torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
