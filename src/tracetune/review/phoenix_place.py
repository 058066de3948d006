"""Review in Phoenix: candidates become spans of a project of their own, annotations decide.

The project is never the one that telemetry is read from; a run would else read its own candidates.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tracetune.errors import DataError, ServerError
from tracetune.files import sha256_json
from tracetune.review.items import OPEN, ReviewedItem
from tracetune.review.options import ReviewOptions
from tracetune.review.phoenix_verdicts import Verdict, read_verdict
from tracetune.review.store import ReviewStore
from tracetune.review.texts import request_of, words_of

if TYPE_CHECKING:
    from tracetune.phoenix_rest import PhoenixServer

SPAN_NAME = "synthetic_candidate"

_BATCH = 500
_IDS_PER_REQUEST = 1000
_ROUNDS = 3
_VISIBLE_SECONDS = 120.0
_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Pulled:
    """What :func:`pull` did.

    Attributes:
        decided: Decisions that are new.
        problems: Annotations that decide nothing, and why; for people.
    """

    decided: int
    problems: tuple[str, ...]


def span_id(project: str, item_id: str) -> str:
    """The id of the span of a candidate: the same each time, and of no other project."""
    return sha256_json(["review", project, item_id])[:16]


def push(
    server: PhoenixServer,
    project: str,
    items: Sequence[ReviewedItem],
    options: ReviewOptions,
    *,
    at: str,
) -> int:
    """Writes open candidates as spans; those that are there already stay as they are.

    When it returns, all of them are visible: the server takes spans into a queue first.

    Args:
        server: The server.
        project: The project of the review; it is made if it is not there.
        items: All candidates; their earlier writings are shown beside those written anew.
        options: Name and labels of the annotation that reviewers give.
        at: Now: the time of the spans.

    Returns:
        How many spans were written.

    Raises:
        ServerError: If the server refuses, or the spans do not appear.
    """
    wanted = {
        span_id(project, shown.item.id): _span(project, shown, _earlier(shown, items), at)
        for shown in items
        if shown.state in OPEN
    }
    if not wanted:
        return 0
    project_id = _find_project(server, project) or _make_project(server, project)
    _offer_annotation(server, project_id, options)
    written = 0
    for round_ in range(_ROUNDS):
        missing = sorted(wanted.keys() - _visible(server, project_id))
        if not missing:
            break
        try:
            for some in _batches(missing, _BATCH):
                spans = {"data": [wanted[name] for name in some]}
                server.send("POST", f"/v1/projects/{project_id}/spans", spans)
        except ServerError:
            # The server refuses a batch in which one span is there already, from another process
            # or from a request whose answer was lost.
            time.sleep(_POLL_SECONDS)
            if round_ + 1 == _ROUNDS or not _visible(server, project_id) & set(missing):
                raise
            continue
        _wait_until_visible(server, project_id, missing)
        written += len(missing)
    return written


def pull(server: PhoenixServer, project: str, store: ReviewStore, options: ReviewOptions) -> Pulled:
    """Takes over what people decided in Phoenix; what was taken over before adds nothing.

    The most recent annotation of a person decides, as for telemetry: its label, or its score where
    it has no label. A decision made elsewhere after the annotation stays. The time of a decision is
    that of its annotation.

    Args:
        server: The server.
        project: The project of the review.
        store: The review.
        options: Names, labels and correction key.
    """
    project_id = _find_project(server, project)
    if project_id is None:
        return Pulled(0, ())
    items = {span_id(project, shown.item.id): shown for shown in store.items()}
    spans = sorted(items.keys() & _visible(server, project_id))
    decided, problems = 0, []
    for some in _batches(spans, _IDS_PER_REQUEST):
        given: dict[str, list[dict[str, Any]]] = {}
        for annotation in _annotations(server, project_id, some, options):
            given.setdefault(annotation["span_id"], []).append(annotation)
        for name in some:
            shown = items[name]
            try:
                verdict = read_verdict(shown.item, given.get(name, ()), options, store.spec())
                if verdict is not None and _is_new(store, shown, verdict):
                    _decide(store, shown, verdict)
                    decided += 1
            except DataError as error:
                problems.append(str(error).replace("\n", "; "))
    return Pulled(decided, tuple(problems))


def _is_new(store: ReviewStore, shown: ReviewedItem, verdict: Verdict) -> bool:
    """Whether it was given after the last thing that happened to the candidate, and says more."""
    if (shown.state, shown.why) == (verdict.state, verdict.why) and verdict.is_of(shown):
        return False
    events = [event for event in store.history() if event.item == shown.item.id][1:]
    if not events:
        return True
    last, moment = events[-1], datetime.fromisoformat(verdict.at)
    if last.place != "phoenix":
        return last.at < moment
    # The server keeps whole seconds: two changes within one are told apart by what they say.
    said = (last.who, last.after, last.why, last.correction)
    same = said == (verdict.who, verdict.state, verdict.why, verdict.correction)
    return last.at < moment or (last.at == moment and not same)


def _decide(store: ReviewStore, shown: ReviewedItem, verdict: Verdict) -> None:
    store.decide(
        shown.item.id,
        verdict.state == "approved",
        who=verdict.who,
        place="phoenix",
        at=verdict.at,
        why=verdict.why,
        correction=verdict.correction,
        seen=shown.seq,
    )


def _earlier(shown: ReviewedItem, items: Sequence[ReviewedItem]) -> list[str]:
    return [
        f"{other.who}: {other.why}"
        for other in items
        if other.item.root == shown.item.root and other.item.attempt < shown.item.attempt
    ]


def _span(project: str, shown: ReviewedItem, earlier: Sequence[str], at: str) -> dict[str, Any]:
    """The span of a candidate, with everything that helps to decide."""
    item = shown.item
    start = datetime.fromisoformat(at)
    facts: dict[str, Any] = {
        "candidate": item.id,
        "kind": item.kind,
        "written_for": item.cell,
        "confidence": item.confidence,
        "attempt": item.attempt + 1,
        "written_by": item.written_by,
    }
    if item.rejected is not None:
        facts |= {"worse_answer": words_of(item.rejected), "worse_because": item.rejected_why}
    if earlier:
        facts["rejected_before"] = "\n".join(earlier)
    if item.nearest:
        facts["real_rows"] = "\n".join(
            f"{near.similarity:.0%}: {near.text} → {near.answer}" for near in item.nearest
        )
    attributes: dict[str, Any] = {
        "input.value": request_of(item),
        "input.mime_type": "text/plain",
        "output.value": words_of(item.answer),
        "output.mime_type": "text/plain",
        **{f"metadata.{name}": value for name, value in facts.items()},
    }
    return {
        "name": SPAN_NAME,
        "context": {
            "trace_id": sha256_json(["review trace", project, item.id])[:32],
            "span_id": span_id(project, item.id),
        },
        "span_kind": "CHAIN",
        "start_time": start.isoformat(),
        "end_time": (start + timedelta(milliseconds=1)).isoformat(),
        "status_code": "OK",
        "attributes": attributes,
    }


def _find_project(server: PhoenixServer, project: str) -> str | None:
    listing = server.pages("/v1/projects", {"limit": 1000})
    for projects, _ in listing:
        for found in projects:
            if found["name"] == project:
                return str(found["id"])
    return None


def _make_project(server: PhoenixServer, project: str) -> str:
    body = {"name": project, "description": "Candidates that wait for approval (tracetune)"}
    try:
        return str(server.send("POST", "/v1/projects", body)["data"]["id"])
    except ServerError:
        # Another process may have made it in between.
        found = _find_project(server, project)
        if found is None:
            raise
        return found


def _offer_annotation(server: PhoenixServer, project_id: str, options: ReviewOptions) -> None:
    """Lets reviewers choose the label in the user interface instead of typing its name."""
    name = options.names[0]
    known = {
        config["name"]: config["id"]
        for configs, _ in server.pages("/v1/annotation_configs", {"limit": 100})
        for config in configs
    }
    if name not in known:
        body = {
            "name": name,
            "type": "CATEGORICAL",
            "description": "Whether the candidate may be trained on",
            "optimization_direction": "MAXIMIZE",
            "values": [
                {"label": options.approved_label, "score": 1.0},
                {"label": options.rejected_label, "score": 0.0},
            ],
        }
        known[name] = server.send("POST", "/v1/annotation_configs", body)["data"]["id"]
    server.send("PUT", f"/v1/projects/{project_id}/annotation_configs/{known[name]}")


def _visible(server: PhoenixServer, project_id: str) -> set[str]:
    """Ids of the spans in the project."""
    listing = server.pages(f"/v1/projects/{project_id}/spans", {"limit": 1000})
    return {span["context"]["span_id"] for spans, _ in listing for span in spans}


def _wait_until_visible(server: PhoenixServer, project_id: str, names: Sequence[str]) -> None:
    end = time.monotonic() + _VISIBLE_SECONDS
    while missing := set(names) - _visible(server, project_id):
        if time.monotonic() > end:
            raise ServerError(
                f"the server took {len(names)} candidates, but {len(missing)} do not appear",
                where=server.address,
                remedy="check the log of the server, then run again: nothing is written twice",
            )
        time.sleep(_POLL_SECONDS)


def _annotations(
    server: PhoenixServer, project_id: str, spans: Sequence[str], options: ReviewOptions
) -> list[dict[str, Any]]:
    params = {
        "span_ids": list(spans),
        "include_annotation_names": list(options.names),
        "limit": 10_000,
    }
    listing = server.pages(f"/v1/projects/{project_id}/span_annotations", params)
    return [annotation for annotations, _ in listing for annotation in annotations]


def _batches(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
