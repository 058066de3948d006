"""The table of answers on held-out rows."""

from __future__ import annotations

from typing import Any

ANSWERS: dict[str, str] = {
    "row_id": "string",
    "group": "string",
    "created_at": "timestamp",
    "model": "string",
    "prompt": "string",
    "target": "string",
    "answer_text": "string",
    "answer": "string",
    "valid_json": "bool",
    "known": "bool",
    "correct": "bool",
    "score": "double",
    "slices": "string",
    "in_top_k": "bool",
    "reference_nats": "double",
    "confidence": "double",
    "latency_ms": "double",
    "tokens": "int64",
    "finish": "string",
}
"""One row per (held-out row, model).

``prompt`` is the user's text after redaction, ``target`` what a person approved, ``answer`` the
parsed target or null, ``known`` whether it exists, ``score`` its agreement from 0 to 1, ``slices``
the parts of the report the row belongs to (one per line), ``in_top_k`` whether the right answer is
among the k best (null where not looked for), ``reference_nats`` the negative log-probability per
token of the right answer (null where it was not scored), ``confidence`` the probability of the
answer or null, ``latency_ms`` milliseconds alone or null where not measured, ``finish`` stop,
length (cut) or too_long (not answered).
"""


def frame(rows: list[dict[str, Any]]) -> Any:
    """A data frame with exactly the columns and types of :data:`ANSWERS`, also without rows."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "bool": pa.bool_(),
        "double": pa.float64(),
        "int64": pa.int64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in ANSWERS.items()])
    return pa.Table.from_pylist(rows, schema=schema).to_pandas()
