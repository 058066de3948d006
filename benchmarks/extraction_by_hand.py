"""Extraction as one would write it by hand with pandas, from ``docs/telemetry-rules.md``.

    python benchmarks/extraction_by_hand.py FOLDER

Reads ``spans.parquet`` and ``annotations.parquet`` and writes the keys of all spans, the verdicts
and the JSONL of examples, pairs and ratings beside them. Only the columns that are needed,
vectorised keys, one merge, one loop over the judged spans. It shares nothing with tracetune but the
redaction and its patterns for ids. ``extraction_pandas.py`` compares the two.

It does less: rows are plain dictionaries that nobody validates, the redacted text is not searched a
second time, ids are not checked for standing twice, outputs may nest to any depth and the funnel
is not added up.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

TENANT = "bench"
ANCHOR = datetime(2026, 3, 1, tzinfo=UTC)
TRAIN_START, TEST_START = ANCHOR - timedelta(days=30), ANCHOR - timedelta(days=7)
MAX_CHARS = 20_000
INSTRUCTION = (
    "Route the request to the agent that should answer it. "
    'Reply with one JSON object: {"agent": "<name>"}.'
)
SPAN_COLUMNS = [
    "span_id", "trace_id", "parent_id", "name", "span_kind", "start_time", "status_code",
    "session_id", "input_json", "output_json",
]  # fmt: skip
NOTE_COLUMNS = [
    "annotation_id", "span_id", "name", "annotator_kind", "identifier", "label", "score",
    "explanation", "metadata_json", "updated_at",
]  # fmt: skip


def safe_ids(column: Any, *, telemetry: bool = False) -> Any:
    """A column of ids, with a hash for those that may say who somebody is."""
    from tracetune.privacy import NAME_ID, PLAIN_ID, RISKY_ID, TELEMETRY_ID, safe_id

    safe = column.str.contains(PLAIN_ID) | (
        column.str.contains(NAME_ID) & ~column.str.contains(RISKY_ID)
    )
    if telemetry:
        safe |= column.str.contains(TELEMETRY_ID)
    risky = column.notna() & ~safe.fillna(False).astype(bool)
    if risky.any():
        column = column.copy()
        column[risky] = [safe_id(value, telemetry=telemetry) for value in column[risky]]
    return column


def stripped(column: Any) -> Any:
    column = column.str.strip()
    return column.mask(column == "")


def classify(spans: Any, notes: Any) -> Any:
    """One row per span: its keys, its window, and why it is no unit."""
    import numpy as np
    import pandas as pd

    start = spans["start_time"]
    window = pd.Series(None, index=spans.index, dtype="str")
    window[(start >= TRAIN_START) & (start < TEST_START)] = "train"
    window[(start >= TEST_START) & (start < ANCHOR)] = "test"
    units = pd.DataFrame(
        {
            "span_id": safe_ids(spans["span_id"], telemetry=True),
            "trace_id": safe_ids(spans["trace_id"], telemetry=True),
            "session_id": sessions_of(spans),
            "start_time": start,
            "window": window,
        }
    )
    annotated = safe_ids(notes["span_id"], telemetry=True)
    units["drop"] = np.select(
        [
            spans["name"] != "routing_agent",
            stripped(spans["span_kind"]).str.upper() != "AGENT",
            stripped(spans["parent_id"]).notna(),
            window.isna(),
            ~units["span_id"].isin(annotated),
        ],
        ["other_name", "other_kind", "child_span", "outside_window", "no_annotation"],
        "",
    )
    return units


def sessions_of(spans: Any) -> Any:
    sessions = stripped(spans["session_id"])
    return safe_ids(sessions.mask(sessions == "unknown"))


def judge(units: Any, notes: Any) -> Any:
    """Approval annotations of the units with their verdicts: the label wins over the score."""
    import numpy as np

    kept = notes.assign(span_id=safe_ids(notes["span_id"], telemetry=True))
    kept = kept[kept["span_id"].isin(units.loc[units["drop"] == "", "span_id"])].copy()
    kept["identifier"] = safe_ids(stripped(kept["identifier"]))
    label = stripped(kept["label"]).str.lower()
    kept["human"] = stripped(kept["annotator_kind"]).str.upper() == "HUMAN"
    kept["verdict"] = np.select(
        [
            label == "approved", label == "rejected", label.notna(),
            kept["score"] >= 0.5, kept["score"] < 0.5,
        ],
        ["approved", "rejected", "", "approved", "rejected"],
        "",
    )  # fmt: skip
    return kept


def test_sessions(spans: Any) -> list[str]:
    """Sessions of at least two turns, one of them in the test window."""
    root = stripped(spans["parent_id"]).isna()
    turns = spans[(spans["name"] == "chat_turn") & root].copy()
    for column in ("input_json", "output_json"):
        turns = turns[turns[column].map(lambda text: is_text(value_of(text))).astype(bool)]
    turns["session_id"] = sessions_of(turns)
    turns = turns[turns["session_id"].notna()]
    turns = turns[turns.groupby("session_id")["session_id"].transform("size") >= 2]
    inside = (turns["start_time"] >= TEST_START) & (turns["start_time"] < ANCHOR)
    return sorted(turns.loc[inside, "session_id"].unique())


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def value_of(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


def output_of(raw: Any) -> dict[str, Any] | None:
    """A valid output: an object that names an agent, at most so long."""
    if isinstance(raw, dict):
        if len(canonical(raw)) > MAX_CHARS:
            return None
        value = raw
    else:
        value = value_of(raw) if isinstance(raw, str) and len(raw) <= MAX_CHARS else None
    return value if isinstance(value, dict) and target_of(value) else None


def target_of(output: dict[str, Any]) -> str | None:
    for field in ("agent", "recommended_agent"):
        if is_text(output.get(field)):
            return output[field].strip()
    return None


def canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def sha256(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def decide(span: Any, notes: list[Any]) -> tuple[str, Any, Any, str, list[Any]]:
    """What a span teaches: (why nothing, own output, answer, its source, rejected answers)."""
    prompt, output = value_of(span.input_json), value_of(span.output_json)
    nothing: tuple[Any, ...] = (None, None, "own", [])
    if str(span.status_code).strip().upper() == "ERROR" or not is_text(prompt):
        return "malformed", *nothing
    own = value_of(output) if is_text(output) else None
    if not isinstance(own, dict) or not target_of(own):
        return "malformed", *nothing
    if max(len(prompt), len(output)) > MAX_CHARS:
        return "too_long", *nothing
    if not any(note.human for note in notes):
        return "not_human", *nothing
    notes = [note for note in notes if note.human and note.verdict]
    if not notes:
        return "no_verdict", *nothing

    notes.sort(key=lambda note: (note.updated_at, note.annotation_id), reverse=True)
    rejecting = [note for note in notes if note.verdict == "rejected"]
    metadata = {note.annotation_id: value_of(note.metadata_json) or {} for note in notes}
    failed, correction = False, None
    for note in notes:
        stated = metadata[note.annotation_id].get("corrected_output")
        given = stated is not None and (not isinstance(stated, str) or is_text(stated))
        correction = output_of(stated if given else note.explanation)
        if correction is not None:
            break
        failed |= given
    if correction is not None:
        if canonical(correction) == canonical(own):
            return "identical_pair", *nothing
        return "", own, correction, "corrected", [own] if rejecting else []
    if failed:
        return "invalid_correction", *nothing
    if len(rejecting) == len(notes):
        return "rejected_only", own, None, "own", []
    others: dict[str, Any] = {}
    for note in rejecting:
        raw = metadata[note.annotation_id].get("rejected_output")
        parsed = output_of(raw)
        if parsed is not None:
            others.setdefault(canonical(parsed), parsed)
        elif isinstance(raw, dict) or (is_text(raw) and len(raw) <= MAX_CHARS):
            text = canonical(raw) if isinstance(raw, dict) else raw.strip()
            others.setdefault(text, text)
    if rejecting and (not others or canonical(own) in others):
        return "identical_pair", *nothing
    return "", own, own, "own", list(others.values())


def collect(joined: Any, redactor: Any) -> tuple[dict[str, list[dict[str, Any]]], Counter[str]]:
    """Redacted candidates by kind, and how many spans each reason dropped."""
    found: dict[str, list[dict[str, Any]]] = {"good": [], "pair": [], "bad": []}
    drops: Counter[str] = Counter()
    for _, group in itertools.groupby(joined.itertuples(index=False), lambda row: row.span_id):
        notes = list(group)
        span = notes[0]
        reason, own, answer, source, rejected = decide(span, notes)
        drops[reason] += 1
        if own is None:
            continue
        prompt = redactor.text(value_of(span.input_json))[0]
        text, key = surface(answer or own, own, redactor)
        worse = [surface(other, own, redactor) for other in rejected]
        if any(other_key == key for _, other_key in worse):
            drops[reason] -= 1
            drops["identical_pair"] += 1
            continue
        base = {
            "span_id": span.span_id, "trace_id": span.trace_id, "session_id": span.session_id,
            "start_time": span.start_time, "window": span.window, "source": source,
            "target": target_of(value_of(text) or {}), "prompt": prompt,
        }  # fmt: skip
        found["good" if answer else "bad"].append({**base, "answer": text, "key": key})
        for other, other_key in worse:
            found["pair"].append(
                {**base, "answer": text, "rejected": other, "key": f"{key}\n{other_key}"}
            )
            found["bad"].append({**base, "answer": other, "key": other_key})
    return found, drops


def surface(output: Any, own: dict[str, Any], redactor: Any) -> tuple[str, str]:
    """An output as it is taught (keys in the order of the span's own), and as it is compared."""
    if isinstance(output, str):
        text = redactor.text(output)[0]
        value = value_of(text)
        return text, canonical(value) if isinstance(value, dict) else text
    names = [name for name in own if name in output] + sorted(set(output) - set(own))
    value = redactor.json({name: output[name] for name in names})[0]
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")), canonical(value)


def unique(candidates: list[dict[str, Any]]) -> Any:
    """Each (prompt, answers) once: of the test window before training, then the earliest."""
    import pandas as pd

    frame = pd.DataFrame(candidates)
    first = frame.sort_values("window", kind="stable").drop_duplicates(["prompt", "key"])
    return first.sort_index()  # "test" sorts before "train"


def row_of(item: Any, kind: str, good: bool | None = None) -> dict[str, Any]:
    """A row as the contract has it."""
    session = item.session_id if isinstance(item.session_id, str) else None
    ids = {"span_id": item.span_id, "trace_id": item.trace_id}
    prompt = [["system", INSTRUCTION], ["user", item.prompt]]
    texts = {"completion": item.answer}
    if kind == "pair":
        texts = {"chosen": item.answer, "rejected": item.rejected}
    content: list[Any] = [prompt, *([["assistant", text]] for text in texts.values())]
    if good is not None:
        content.append(good)
    if session is not None:
        ids["session_id"] = session
    content_hash = sha256(content)
    row = {
        "id": f"{kind}-{sha256(['phoenix', TENANT, ids, content_hash])[:20]}",
        "provenance": {
            "source": "phoenix",
            "tenant": TENANT,
            "ids": ids,
            "group": f"session:{session}" if session is not None else f"trace:{item.trace_id}",
            "created_at": item.start_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "content_hash": content_hash,
            "weight": 1.0,
        },
        "tags": {
            "target": item.target,
            "target_source": item.source,
            "window": item.window,
        },
        "prompt": [{"role": role, "content": text} for role, text in prompt],
        **{name: [{"role": "assistant", "content": text}] for name, text in texts.items()},
    }
    return row if good is None else {**row, "good": good}


def write(path: Path, rows: Any) -> None:
    with path.open("w", encoding="utf-8") as out:
        out.writelines(canonical(row) + "\n" for row in rows)


def extract(folder: Path) -> dict[str, Any]:
    """The whole script; gives the counts."""
    import pandas as pd

    from tracetune.privacy import PrivacyOptions, Redactor

    spans = pd.read_parquet(folder / "spans.parquet", columns=SPAN_COLUMNS)
    notes = pd.read_parquet(folder / "annotations.parquet", columns=NOTE_COLUMNS)
    notes = notes[notes["name"] == "human_approval"]
    units = classify(spans, notes)
    units.to_parquet(folder / "units.parquet")
    verdicts = judge(units, notes)
    verdicts.drop(columns=["explanation", "metadata_json"]).to_parquet(folder / "verdicts.parquet")
    sessions = test_sessions(spans)

    texts = spans[["status_code", "input_json", "output_json"]]
    joined = units.join(texts)[units["drop"] == ""].merge(
        verdicts[["span_id", "annotation_id", "human", "verdict", "updated_at", "explanation",
                  "metadata_json"]],
        on="span_id",
    )  # fmt: skip
    joined = joined.sort_values(["start_time", "span_id", "annotation_id"])
    redactor = Redactor(PrivacyOptions())
    found, drops = collect(joined, redactor)
    drops.update(units.loc[units["drop"] != "", "drop"].value_counts().to_dict())

    good, pairs, bad = (unique(found[kind]) for kind in ("good", "pair", "bad"))
    drops["duplicate"] = drops.pop("") - len(good)
    write(folder / "examples.jsonl", (row_of(item, "sft") for item in good.itertuples()))
    write(folder / "preferences.jsonl", (row_of(item, "pair") for item in pairs.itertuples()))
    rated = pd.concat([good.assign(good=True), bad.assign(good=False)])
    sides = rated.groupby(["prompt", "key"])["good"].transform("nunique")
    rated = rated[sides == 1].sort_values(["start_time", "span_id", "good"], kind="stable")
    write(
        folder / "ratings.jsonl",
        (row_of(item, "good" if item.good else "bad", item.good) for item in rated.itertuples()),
    )
    return {"drops": dict(drops), "sessions": sessions, "redacted": redactor.report().found}


if __name__ == "__main__":
    print(json.dumps(extract(Path(sys.argv[1])), indent=2))
