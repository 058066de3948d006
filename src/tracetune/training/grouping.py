"""Batches of rows of about equal length: less padding, every row once per epoch.

Imported only by a running job, because torch is heavy. The sampler of transformers differs in two
ways. It draws from the global random state, which a continued run does not have at the start of its
epoch; this one hangs on seed and epoch alone, so that a killed run goes on with the batches that it
would have seen. And it makes all rows of an optimiser step equally long, which gives the tokens of
short rows more weight; here only those that go through the model together are, and a step mixes
lengths where it accumulates gradients.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

SPREAD = 0.1
"""Lengths are compared with this much noise, so that the epochs do not repeat their batches."""


class LengthGroups(Sampler[int]):
    """Positions of rows, batch after batch; the batches come in a random order.

    Args:
        lengths: Tokens of each row.
        batch: Rows that go through the model together (``per_device_train_batch_size``).
        seed: Seed of the job.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths = lengths
        self.batch = batch
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """Rows."""
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """The positions of one epoch, each once."""
        chance = random.Random(f"length groups {self.seed} {self.epoch}")
        noisy = [length * chance.uniform(1 - SPREAD, 1 + SPREAD) for length in self.lengths]
        order = sorted(range(len(noisy)), key=noisy.__getitem__)
        # The rows that fill no batch: from anywhere, and last, where the trainer expects them.
        rest = set(chance.sample(order, len(order) % self.batch))
        full = [position for position in order if position not in rest]
        batches = [full[at : at + self.batch] for at in range(0, len(full), self.batch)]
        chance.shuffle(batches)
        for batch in batches:
            yield from batch
        yield from sorted(rest, key=self.lengths.__getitem__)


class ByLength(Sampler[int]):
    """Positions of rows from the longest to the shortest, always the same.

    Args:
        lengths: Tokens of each row.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        """Rows."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """The positions."""
        return iter(sorted(range(len(self)), key=self.lengths.__getitem__, reverse=True))
