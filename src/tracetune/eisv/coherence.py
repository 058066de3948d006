"""How well tokens fit shapes, and how varied they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tracetune.eisv.expression import NO_TOKEN, Codes, Labels, shape_codes
from tracetune.eisv.states import Floats
from tracetune.eisv.vocabulary import AFFINITY, EISV_TOKENS, SHAPES, TOKEN_INDEX
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
    counts = token_counts(token_lists)
    names = np.array([str(shape) for shape in shapes], dtype=str)
    found = {str(name): counts[names == name].sum(axis=0) for name in np.unique(names)}
    return {
        shape: {
            token: n / each.sum() for token, n in zip(EISV_TOKENS, each.tolist(), strict=True) if n
        }
        for shape, each in found.items()
        if each.any()
    }


def token_counts(token_lists: Sequence[Sequence[str]]) -> Floats:
    """``(lists, 15)`` how often each token stands in each list.

    Raises:
        DataError: A token is unknown.
    """
    found = np.zeros((len(token_lists), len(EISV_TOKENS)))
    for i, tokens in enumerate(token_lists):
        for token in tokens:
            if token not in TOKEN_INDEX:
                raise DataError(
                    f"there is no token {token!r}",
                    where=f"token list {i}",
                    remedy=f"use one of {', '.join(EISV_TOKENS)}",
                )
            found[i, TOKEN_INDEX[token]] += 1
    return found


def total_variation(p: Floats, q: Floats) -> Floats:
    """Total-variation distance of distributions: half the sum of the differences.

    Args:
        p: Shares on the last axis.
        q: The same; one distribution or as many.

    Returns:
        One number for each: 0 for equal distributions, 1 where they have nothing in common.

    Raises:
        DataError: One of them does not sum to 1, such as one without any token.
    """
    for name, each in (("first", p), ("second", q)):
        sums = each.sum(axis=-1)
        if (wrong := np.abs(sums - 1) > 1e-6).any():
            raise DataError(
                f"the shares of the {name} distribution sum to {np.atleast_1d(sums[wrong])[0]:.6g},"
                " not to 1",
                remedy="leave shapes without tokens out of the comparison",
            )
    distance: Floats = np.abs(p - q).sum(axis=-1) / 2
    return distance


def _same_length(shapes: Sequence[str] | Codes, tokens: Sequence[Sequence[str]] | Labels) -> None:
    if len(shapes) != len(tokens):
        raise DataError(
            f"{len(shapes)} shapes and {len(tokens)} token lists do not belong together",
            remedy="give one token list for each shape",
        )
