"""Ranks the documents of a catalogue for held-out queries, with every model on the same ground.

Every model sees the whole catalogue and nothing else. Ties (BM25 gives many zeros) are broken by
the hash of the document's id, which knows nothing of the query, the same for all models.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetune.errors import DataError
from tracetune.evaluation.retrieval_options import RetrievalOptions
from tracetune.files import sha256_text
from tracetune.records import CatalogueDocument, SearchQuery
from tracetune.training.base import BaseModelRef

if TYPE_CHECKING:
    import pandas as pd

DEPTH = 10
"""Ranks that are kept per query and model."""
CUTS = (1, 5, 10)
SCORES = ("recall_1", "recall_5", "recall_10", "ndcg_10", "reciprocal_rank")
COLUMNS: dict[str, str] = {
    "row_id": "str",
    "group": "str",
    "model": "str",
    "query": "str",
    "relevant": "str",
    "top": "str",
    "first_rank": "int64",
    **dict.fromkeys(SCORES, "float64"),
    "latency_ms": "float64",
}
_CHUNK = 256

Scorer = Callable[[Sequence[str]], Any]
"""Queries → scores, shape (queries, documents); higher is better."""


@dataclass(frozen=True)
class Encoder:
    """One encoder to judge.

    Attributes:
        base: Its base.
        folder: What was trained on it; None: the base itself.
    """

    base: BaseModelRef
    folder: Path | None = None


def quality(ranks: Sequence[int], relevant: int) -> dict[str, float]:
    """The scores of one query.

    Args:
        ranks: Ranks of the relevant documents, from 1.
        relevant: How many documents are relevant.

    Returns:
        ``recall_k``: share of the relevant documents among the first k. ``ndcg_10`` with gain 1 and
        discount log2(rank + 1) (Järvelin and Kekäläinen 2002). ``reciprocal_rank``: one over the
        rank of the first relevant document.
    """
    found: dict[str, float] = {
        f"recall_{cut}": sum(rank <= cut for rank in ranks) / relevant for cut in CUTS
    }
    gain = math.fsum(1 / math.log2(rank + 1) for rank in ranks if rank <= DEPTH)
    found["ndcg_10"] = gain / _ideal(relevant)
    found["reciprocal_rank"] = 1 / min(ranks)
    return found


def _ideal(relevant: int) -> float:
    return math.fsum(1 / math.log2(rank + 1) for rank in range(1, min(relevant, DEPTH) + 1))


def by_chance(relevant: int, documents: int) -> dict[str, float]:
    """What a random order of the catalogue scores on average, exactly.

    The first of R relevant among N documents stands at rank r with probability
    C(N - r, R - 1) / C(N, R).
    """
    found: dict[str, float] = {f"recall_{cut}": min(cut, documents) / documents for cut in CUTS}
    gain = math.fsum(1 / math.log2(rank + 1) for rank in range(1, min(DEPTH, documents) + 1))
    found["ndcg_10"] = relevant / documents * gain / _ideal(relevant)
    mean, chance = 0.0, relevant / documents
    for rank in range(1, documents - relevant + 2):
        mean += chance / rank
        left = documents - rank
        chance *= (left - relevant + 1) / left if left else 0.0
    found["reciprocal_rank"] = mean
    return found


def rank(
    queries: Sequence[SearchQuery],
    documents: Sequence[CatalogueDocument],
    encoders: Mapping[str, Encoder],
    options: RetrievalOptions,
) -> pd.DataFrame:
    """Ranks and scores of all models, BM25 included.

    Args:
        queries: Held-out queries.
        documents: The catalogue.
        encoders: Encoders by name, in the order of the columns of the report.
        options: Batch size, threads, latency.

    Returns:
        One row per query and model, columns :data:`COLUMNS`; ``relevant`` and ``top`` are JSON
        lists of document ids, ``latency_ms`` is NaN where it was not measured.

    Raises:
        DataError: If a relevant document is not in the catalogue.
    """
    import pandas as pd

    ordered = sorted(documents, key=lambda document: (sha256_text(document.id), document.id))
    _check(queries, ordered)
    rows: list[dict[str, Any]] = []
    if queries:
        texts = [document.text for document in ordered]
        with _threads(options.threads):
            for name, found in encoders.items():
                rows += _ranked(name, _by_encoder(found, texts, options), queries, ordered, options)
        rows += _ranked("bm25", _by_bm25(texts), queries, ordered, options)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _check(queries: Sequence[SearchQuery], documents: Sequence[CatalogueDocument]) -> None:
    known = {document.id for document in documents}
    lost = sorted({key for query in queries for key in query.relevant} - known)
    if lost:
        raise DataError(
            f"{len(lost)} relevant documents are not in the catalogue, for example {lost[0]!r}",
            where="held-out queries",
            remedy="queries and catalogue come from different runs; run the pipeline anew",
        )


def _by_encoder(found: Encoder, texts: list[str], options: RetrievalOptions) -> Scorer:
    from tracetune.training import encoder, quiet

    model = encoder.load(found.base, found.folder)
    with quiet.offline(), quiet.quiet():
        vectors = model.encode_document(
            texts, batch_size=options.batch_size, normalize_embeddings=True, show_progress_bar=False
        )

    def scores(queries: Sequence[str]) -> Any:
        asked = model.encode_query(
            list(queries),
            batch_size=options.batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return asked @ vectors.T

    return scores


def _by_bm25(texts: list[str]) -> Scorer:
    """BM25 as Lucene does it (k1 1.5, b 0.75), English stop words left out."""
    import logging

    import bm25s
    import numpy as np

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells of every step otherwise

    def tokens(found: Sequence[str]) -> Any:
        return bm25s.tokenize(list(found), return_ids=False, show_progress=False)

    index = bm25s.BM25(method="lucene")
    index.index(tokens(texts), show_progress=False)

    def scores(queries: Sequence[str]) -> Any:
        known = index.vocab_dict
        found = np.zeros((len(queries), len(texts)), dtype=np.float32)
        for row, words in enumerate(tokens(queries)):
            usable = [word for word in words if word in known]
            if usable:
                found[row] = index.get_scores(usable)
        return found

    return scores


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ranked(
    model: str,
    scorer: Scorer,
    queries: Sequence[SearchQuery],
    documents: Sequence[CatalogueDocument],
    options: RetrievalOptions,
) -> list[dict[str, Any]]:
    import numpy as np

    ids = [document.id for document in documents]
    rows = []
    for start in range(0, len(queries), _CHUNK):
        part = queries[start : start + _CHUNK]
        scores = np.asarray(scorer([query.text for query in part]))
        for query, order in zip(part, np.argsort(-scores, axis=1, kind="stable"), strict=True):
            place = {ids[position]: rank for rank, position in enumerate(order, start=1)}
            ranks = [place[key] for key in query.relevant]
            rows.append(
                {
                    "row_id": query.id,
                    "group": query.provenance.group,
                    "model": model,
                    "query": query.text,
                    "relevant": json.dumps(query.relevant, ensure_ascii=False),
                    "top": json.dumps([ids[p] for p in order[:DEPTH]], ensure_ascii=False),
                    "first_rank": min(ranks),
                    **quality(ranks, len(ranks)),
                    "latency_ms": float("nan"),
                }
            )
    for place_, milliseconds in _latency(scorer, queries, options.latency_queries):
        rows[place_]["latency_ms"] = milliseconds
    return rows


def _latency(
    scorer: Scorer, queries: Sequence[SearchQuery], count: int
) -> Iterator[tuple[int, float]]:
    """Milliseconds from one query to its ranking, catalogue ready, for some of the queries."""
    import numpy as np

    count = min(count, len(queries))
    if count:
        scorer([queries[0].text])  # the first call pays for what is made once
    for number in range(count):
        place = number * len(queries) // count
        started = time.perf_counter()
        np.argsort(-np.asarray(scorer([queries[place].text]))[0], kind="stable")
        yield place, (time.perf_counter() - started) * 1000
