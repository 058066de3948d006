"""How well tokens fit shapes, and how varied they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tracetune.eisv.expression import NO_TOKEN, Codes, Labels, shape_codes
from tracetune.eisv.states import Floats
from tracetune.eisv.vocabulary import AFFINITY, EISV_TOKENS, SHAPES
from tracetune.errors import DataError

_AFFINE = np.array([[token in AFFINITY[shape] for token in EISV_TOKENS] for shape in SHAPES])


def coherence(shape: str, tokens: Sequence[str]) -> float:
    """Share of the tokens that fit the shape; repeated tokens count each time.

    Returns:
        From 0 to 1; 0 for no tokens and for an unknown shape.
    """
    fitting = AFFINITY.get(shape, ())
    return sum(token in fitting for token in tokens) / len(tokens) if tokens else 0.0


def coherence_many(
    shapes: Sequence[str] | Codes, tokens: Sequence[Sequence[str]] | Labels
) -> Floats:
    """The coherence of each record, as ``coherence`` gives it.

    Args:
        shapes: Names, or codes with ``Labels``.
        tokens: Token lists, or ``Labels``; the same number.

    Raises:
        DataError: The numbers differ, or ``Labels`` come with an unknown shape.
    """
    _same_length(shapes, tokens)
    if isinstance(tokens, Labels):
        codes = shape_codes(shapes)
        present = tokens.tokens != NO_TOKEN
        fitting = _AFFINE[codes[:, None], tokens.tokens] & present
        counts: Floats = fitting.sum(axis=1) / np.maximum(1, present.sum(axis=1))
        return counts
    if isinstance(shapes, np.ndarray) and np.issubdtype(shapes.dtype, np.integer):
        shapes = [SHAPES[code] for code in shape_codes(shapes).tolist()]
    return np.array(
        [coherence(str(shape), row) for shape, row in zip(shapes, tokens, strict=True)],
        dtype=np.float64,
    )


def diversity(token_lists: Iterable[Sequence[str]]) -> float:
    """Distinct tokens over all tokens, pooled; 0 without tokens.

    It shrinks as lists are added, so two values compare only at the same number of records.
    """
    every = [token for tokens in token_lists for token in tokens]
    return len(set(every)) / len(every) if every else 0.0


def token_distribution(
    shapes: Sequence[str], token_lists: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Shape → token → its share among all tokens said of that shape.

    Shapes and tokens that do not occur are left out.

    Raises:
        DataError: There are not as many shapes as token lists.
    """
    _same_length(shapes, token_lists)
    counts: dict[str, Counter[str]] = {}
    for shape, tokens in zip(shapes, token_lists, strict=True):
        counts.setdefault(str(shape), Counter()).update(tokens)
    return {
        shape: {token: n / found.total() for token, n in sorted(found.items())}
        for shape, found in sorted(counts.items())
        if found
    }


def total_variation(p: Mapping[str, float], q: Mapping[str, float]) -> float:
    """Total-variation distance of two distributions: half the sum of the differences.

    Returns:
        0 for equal distributions, 1 for distributions with nothing in common.

    Raises:
        DataError: One of them does not sum to 1, such as one without any token.
    """
    for name, each in (("first", p), ("second", q)):
        if abs(sum(each.values()) - 1) > 1e-6:
            raise DataError(
                f"the shares of the {name} distribution sum to {sum(each.values()):.6g}, not to 1",
                remedy="leave shapes without tokens out of the comparison",
            )
    return sum(abs(p.get(key, 0.0) - q.get(key, 0.0)) for key in sorted({*p, *q})) / 2


def _same_length(shapes: Sequence[str] | Codes, tokens: Sequence[Sequence[str]] | Labels) -> None:
    if len(shapes) != len(tokens):
        raise DataError(
            f"{len(shapes)} shapes and {len(tokens)} token lists do not belong together",
            remedy="give one token list for each shape",
        )
