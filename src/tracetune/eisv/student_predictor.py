"""Answers of the student from its JSON document, with nothing but the standard library.

The file can be copied to wherever the student runs, beside ``student.json``::

    student = Student.load("student.json")
    student.answer_states(states, shape="convergence").text

A student is up to four forests: the pattern; the first token; the second given the pattern and the
first; the third given the first two as well. A forest is asked for the mean of the leaf shares of
its trees, not for their votes.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

FORMAT = "tracetune eisv student"
VERSION = 1
DIMENSIONS = ("E", "I", "S", "V")
DECIMALS = 4
LEAF = -1
MAX_PRIMITIVES = 3

# A share that no tree saw is not impossible: without it a rule of the pattern could leave nothing.
_FLOOR = 1e-6
_SAME = 9

Probabilities = Callable[[str, Sequence[float]], Sequence[float]]
"""Name of a forest and its input to the shares of its classes."""


@dataclass(frozen=True)
class Prediction:
    """What the student answers.

    Attributes:
        tokens: One to three EISV tokens.
        lumen: Their Lumen primitives.
        pattern: The pattern.
    """

    tokens: tuple[str, ...]
    lumen: tuple[str, ...]
    pattern: str

    @property
    def text(self) -> str:
        """The answer in the three lines in which the teacher writes it."""
        return (
            f"EISV_TOKENS: {' '.join(self.tokens)}\nLUMEN_TOKENS: {' '.join(self.lumen)}\n"
            f"PATTERN: {self.pattern}"
        )


class Speaker:
    """Makes answers out of the shares of the forests; how they are had is the caller's affair.

    Args:
        document: The student without its trees: names, scaling, bridge.
        probabilities: Asks a forest.
    """

    def __init__(self, document: Mapping[str, Any], probabilities: Probabilities) -> None:
        self._tokens: list[str] = document["tokens"]
        self._inquiry: list[str] = document["inquiry_tokens"]
        self._patterns: list[str] = document["patterns"]
        self._shapes: list[str] = document["shapes"]
        self._bridge: dict[str, list[str]] = document["bridge"]
        self._means: list[float] = document["means"]
        self._scales: list[float] = document["scales"]
        self._classes: dict[str, list[str]] = document["classes"]
        self._with_shape: bool = document["with_shape"]
        self._probabilities = probabilities

    @property
    def with_shape(self) -> bool:
        """Whether the shape is part of its input, or it has the numbers only."""
        return self._with_shape

    def features(self, numbers: Sequence[float], shape: str | None = None) -> list[float]:
        """The input of the first forests: twelve numbers, standardised, and the shape as 0 and 1.

        Args:
            numbers: Means of E, I, S and V, of their first and of their second derivatives.
            shape: The shape, for a student that takes it; None for one that does not.

        Raises:
            ValueError: Not twelve finite numbers, or a shape too many, missing or unknown.
        """
        if len(numbers) != len(self._means) or not all(map(math.isfinite, numbers)):
            raise ValueError(f"a window has {len(self._means)} finite numbers, not {numbers!r}")
        found = [
            (number - mean) / scale
            for number, mean, scale in zip(numbers, self._means, self._scales, strict=True)
        ]
        if not self._with_shape:
            if shape is not None:
                raise ValueError("this student takes no shape: it has the numbers only")
            return found
        if shape not in self._shapes:
            raise ValueError(f"this student needs a shape of {self._shapes}, not {shape!r}")
        return found + _one_hot(shape, self._shapes)

    def answer(
        self,
        numbers: Sequence[float],
        shape: str | None = None,
        *,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Prediction:
        """The answer to a window.

        Args:
            numbers: Means of E, I, S and V, of their first and of their second derivatives.
            shape: The shape, for a student that takes it.
            temperature: 0 takes the likeliest of everything; 1 draws by the shares.
            seed: Of the draws; the same seed gives the same answer.

        Raises:
            ValueError: As ``features``, or a negative temperature.
        """
        if not temperature >= 0:
            raise ValueError(f"a temperature is 0 or more, not {temperature}")
        base = self.features(numbers, shape)
        rng = random.Random(seed)

        def choose(forest: str, row: list[float], allowed: Sequence[str]) -> str:
            shares = dict(zip(self._classes[forest], self._probabilities(forest, row), strict=True))
            return _choose([(name, shares.get(name, 0.0)) for name in allowed], temperature, rng)

        pattern = choose("pattern", base, self._classes["pattern"])
        tokens = [choose("token_1", base, self._tokens)]
        row = base + _one_hot(pattern, self._patterns) + _one_hot(tokens[0], self._tokens)
        if pattern == "REPETITION":
            tokens *= 2
        elif pattern == "QUESTION":
            tokens.append(choose("token_2", row, self._inquiry))
        elif pattern in ("PAIR", "TRIPLE"):
            tokens.append(choose("token_2", row, [t for t in self._tokens if t not in tokens]))
        if pattern == "TRIPLE":
            row = row + _one_hot(tokens[1], self._tokens)
            tokens.append(choose("token_3", row, [t for t in self._tokens if t not in tokens]))
        return Prediction(tuple(tokens), self.translate(tokens), pattern)

    def answer_states(
        self,
        states: Sequence[Mapping[str, float]],
        shape: str | None = None,
        *,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Prediction:
        """The answer to a window given as states with ``t``, ``E``, ``I``, ``S`` and ``V``."""
        return self.answer(numbers_of(states), shape, temperature=temperature, seed=seed)

    def translate(self, tokens: Sequence[str]) -> tuple[str, ...]:
        """The Lumen primitives of tokens: of each the first that is not yet used, three at most."""
        found: list[str] = []
        for token in tokens:
            free = [name for name in self._bridge[token] if name not in found]
            found += free[:1]
        return tuple(found[:MAX_PRIMITIVES])


class Student(Speaker):
    """A student read from its document.

    Args:
        document: As ``student.json`` holds it.

    Raises:
        ValueError: It is no document of a student, or of another version.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        known = isinstance(document, dict) and document.get("format") == FORMAT
        if not known or document.get("version") != VERSION:
            raise ValueError(f"not a student of version {VERSION}")
        self._forests: dict[str, list[dict[str, list[Any]]]] = document["forests"]
        super().__init__(document, self.probabilities)

    @classmethod
    def load(cls, path: str | Path) -> Student:
        """Reads a document.

        Raises:
            OSError: It cannot be read.
            ValueError: It is no JSON, or no student.
        """
        return cls(json.loads(Path(path).read_text(encoding="utf-8")))

    def probabilities(self, forest: str, row: Sequence[float]) -> list[float]:
        """The shares of the classes of a forest, in the order of ``classes``.

        Args:
            forest: ``pattern``, ``token_1``, ``token_2`` or ``token_3``.
            row: Its input.
        """
        trees = self._forests[forest]
        narrow = _float32(row)
        sums = [0.0] * len(self._classes[forest])
        for tree in trees:
            counts = tree["counts"][_leaf(tree, narrow)]
            total = sum(counts[1::2])
            for place, count in zip(counts[::2], counts[1::2], strict=True):
                sums[place] += count / total
        return [found / len(trees) for found in sums]


def _leaf(tree: Mapping[str, list[Any]], row: Sequence[float]) -> int:
    feature, threshold, left, right = (
        tree["feature"],
        tree["threshold"],
        tree["left"],
        tree["right"],
    )
    node = 0
    while feature[node] != LEAF:
        node = left[node] if row[feature[node]] <= threshold[node] else right[node]
    found: int = left[node]  # a leaf keeps there the place of its counts
    return found


def _float32(row: Sequence[float]) -> list[float]:
    """The numbers in single precision, in which the trees were grown."""
    code = f"<{len(row)}f"
    return list(struct.unpack(code, struct.pack(code, *row)))


def _one_hot(name: str, names: Sequence[str]) -> list[float]:
    return [float(one == name) for one in names]


def _choose(shares: Sequence[tuple[str, float]], temperature: float, rng: random.Random) -> str:
    """One of the names, by its share; rounded, so that rounding errors decide nothing."""
    rounded = [(name, round(share, _SAME) + _FLOOR) for name, share in shares]
    best = max(share for _, share in rounded)
    if temperature == 0:
        return next(name for name, share in rounded if share == best)
    weights = [(share / best) ** (1 / temperature) for _, share in rounded]
    place = rng.random() * math.fsum(weights)
    for (name, _), weight in zip(rounded, weights, strict=True):
        place -= weight
        if place < 0:
            return name
    return rounded[-1][0]


def numbers_of(states: Sequence[Mapping[str, float]]) -> list[float]:
    """The twelve numbers of a window: means of states, first and second derivatives.

    Derivatives are quotients of consecutive rows; two states of the same time give none, and the
    later one goes on. Without derivatives the means are 0. Rounded to four decimals, as the teacher
    reads them.

    Args:
        states: In the order of their times.

    Raises:
        ValueError: No states, a number that is missing or not finite, or a time that goes back.
    """
    rows = [_row(state, i) for i, state in enumerate(states)]
    if not rows:
        raise ValueError("a window needs states")
    if any(later[0] < one[0] for one, later in pairwise(rows)):
        raise ValueError("the times of the states go back")
    first = _quotients(rows)
    found = [mean for part in (rows, first, _quotients(first)) for mean in _means(part)]
    return [round(mean, DECIMALS) + 0.0 for mean in found]


def _row(state: Mapping[str, float], index: int) -> list[float]:
    row = []
    for name in ("t", *DIMENSIONS):
        value = state.get(name)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"state {index}: {name} is not a finite number: {value!r}")
        row.append(float(value))
    return row


def _quotients(rows: list[list[float]]) -> list[list[float]]:
    return [
        [
            later[0],
            *((b - a) / (later[0] - one[0]) for a, b in zip(one[1:], later[1:], strict=True)),
        ]
        for one, later in pairwise(rows)
        if later[0] != one[0]
    ]


def _means(rows: list[list[float]]) -> list[float]:
    columns = range(1, 1 + len(DIMENSIONS))
    return [sum(row[i] for row in rows) / len(rows) if rows else 0.0 for i in columns]
