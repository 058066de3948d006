"""Near-duplicates of texts: exact Jaccard similarity of word shingles, without comparing all pairs.

Prefix filter (Bayardo, Ma, Srikant 2007, "Scaling up all pairs similarity search"): two sets with a
Jaccard similarity of at least t share one of their |x| - ceil(t |x|) + 1 rarest elements, so only
texts that meet in an index of those are compared. The result is exact and does not depend on the
version of any library, which signatures of MinHash would. ``benchmarks/million_spans.py`` measures
it on 100,000 texts.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

_WORD = re.compile(r"\w+")

Shingles = frozenset[str]


def shingles(text: str, size: int) -> Shingles:
    """Runs of ``size`` words after normalisation (NFKC, case folded, punctuation ignored).

    A text with fewer words is one shingle; one without any word is itself, stripped.
    """
    normal = unicodedata.normalize("NFKC", text).casefold()
    words = _WORD.findall(normal)
    if not words:
        return frozenset({normal.strip()})
    last = max(len(words) - size + 1, 1)
    return frozenset(" ".join(words[i : i + size]) for i in range(last))


def similarity(a: Shingles, b: Shingles) -> float:
    """Jaccard similarity: shared shingles over all shingles of both."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def near_pairs(
    sets: Sequence[Shingles], threshold: float, wanted: Callable[[int, int], bool]
) -> Iterator[tuple[int, int]]:
    """Every pair of positions with a similarity of at least ``threshold`` that is still ``wanted``.

    Args:
        sets: Shingles of each text, all different (equal ones are found by hashing).
        threshold: Smallest similarity, in (0, 1].
        wanted: Asked before two texts are compared, so that a caller who has learned enough about
            a text saves the comparison.

    Yields:
        Positions (i, j) with i < j; each pair once, in no promised order.
    """
    counts = Counter(shingle for current in sets for shingle in current)
    index: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(sets)), key=lambda position: len(sets[position])):
        current = sets[i]
        rarest = sorted(current, key=lambda shingle: (counts[shingle], shingle))
        shortest = threshold * len(current) - 1e-9
        seen: set[int] = set()
        for shingle in rarest[: len(current) - math.ceil(shortest) + 1]:
            for j in index[shingle]:
                if j in seen or len(sets[j]) < shortest:
                    continue
                seen.add(j)
                pair = (i, j) if i < j else (j, i)
                if wanted(*pair) and similarity(current, sets[j]) >= threshold:
                    yield pair
            index[shingle].append(i)
