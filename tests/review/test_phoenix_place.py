"""Review on the real Phoenix server: spans that wait, annotations that decide."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.phoenix_server import Server, start
from tests.review.builders import AT, SPEC, agent, item
from tracetune.datasets.review_dataset import Reviews
from tracetune.errors import ServerError
from tracetune.phoenix_rest import PhoenixServer
from tracetune.review.items import Correction
from tracetune.review.options import ReviewOptions
from tracetune.review.phoenix_place import Pulled, pull, push, span_id
from tracetune.review.store import ReviewStore

pytestmark = pytest.mark.phoenix

NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start(tmp_path_factory.mktemp("phoenix-review")) as server:
        yield server


class Place:
    """A review with three candidates, pushed to a project of its own."""

    def __init__(self, phoenix: Server, folder: Path) -> None:
        self.options = ReviewOptions(place="phoenix", url=phoenix.url)
        self.project = self.options.project_of("acme", f"router-{next(NUMBERS)}")
        self.reviews = Reviews(folder, None)
        self.store = self.reviews.store
        self.server = self.reviews.server(phoenix.url)
        self.http = httpx.Client(base_url=phoenix.url, trust_env=False, timeout=30)
        pair = item(2, request="will it rain\nin Bergen 🌧", answer="weather_agent", rejected="x")
        self.store.submit(
            [item(1), pair, item(3, request="book a flight", answer="travel_agent")],
            SPEC,
            auto_approve_from=None,
            at=AT,
        )

    def push(self) -> int:
        return push(self.server, self.project, self.store.items(), self.options, at=AT)

    def pull(self) -> Pulled:
        return pull(self.server, self.project, self.store, self.options)

    def spans(self) -> list[dict[str, Any]]:
        answer = self.http.get(f"/v1/projects/{self.project}/spans", params={"limit": 1000})
        return answer.raise_for_status().json()["data"]

    def annotate(
        self,
        number: int,
        label: str | None = "approved",
        *,
        score: float | None = None,
        words: str | None = None,
        who: str = "ada",
        kind: str = "HUMAN",
        name: str = "human_approval",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        result = {"label": label, "score": score, "explanation": words}
        annotation = {
            "span_id": span_id(self.project, item(number).id),
            "name": name,
            "annotator_kind": kind,
            "result": {key: value for key, value in result.items() if value is not None},
            "identifier": who,
            "metadata": metadata or {},
        }
        answer = self.http.post(
            "/v1/span_annotations", params={"sync": "true"}, json={"data": [annotation]}
        )
        answer.raise_for_status()

    def states(self) -> list[str]:
        return [found.state for found in self.store.items()]


@pytest.fixture
def place(phoenix: Server, tmp_path: Path) -> Iterator[Place]:
    found = Place(phoenix, tmp_path / "reviews")
    yield found
    found.server.close()
    found.http.close()


def test_candidates_are_visible_when_push_returns_and_a_second_push_changes_nothing(place):
    assert place.push() == 3
    before = place.spans()
    assert place.push() == 0
    assert place.spans() == before
    assert len(before) == 3
    by_id = {span["context"]["span_id"]: span for span in before}
    pair = by_id[span_id(place.project, item(2).id)]
    shown = pair["attributes"]
    assert pair["name"] == "synthetic_candidate"
    assert shown["input.value"] == "will it rain\nin Bergen 🌧"
    assert shown["output.value"] == agent("weather_agent")
    assert shown["metadata.worse_answer"] == agent("x")
    assert shown["metadata.worse_because"] == "it books trips"
    assert "I never got my bill" in shown["metadata.real_rows"]
    assert shown["metadata.confidence"] == 0.8


def test_reviewers_can_choose_the_label_in_the_interface(place):
    place.push()
    configs = place.http.get(f"/v1/projects/{place.project}/annotation_configs").json()["data"]
    assert [config["name"] for config in configs] == ["human_approval"]
    assert [value["label"] for value in configs[0]["values"]] == ["approved", "rejected"]


def test_a_span_that_a_reviewer_deleted_is_written_again(place):
    place.push()
    gone = span_id(place.project, item(1).id)
    place.http.delete(f"/v1/spans/{gone}").raise_for_status()
    assert place.push() == 1
    assert gone in {span["context"]["span_id"] for span in place.spans()}


def test_decided_candidates_are_not_written(place):
    place.store.decide(item(1).id, True, who="ada", place="terminal", at=AT)
    assert place.push() == 2


def test_what_people_said_is_taken_over_once(place):
    place.push()
    assert place.pull() == Pulled(0, ())
    place.annotate(1, " Approved ", words="reads well")
    place.annotate(2, "rejected", words="ask eve@example.org", who="")
    place.annotate(3, None, score=0.2)
    assert place.pull() == Pulled(3, ())
    assert place.pull() == Pulled(0, ())
    found = place.store.items()
    assert [shown.state for shown in found] == ["approved", "rejected", "rejected"]
    assert [shown.who for shown in found] == ["ada", "phoenix", "ada"]
    assert [shown.why for shown in found] == [
        "reads well",
        "ask <EMAIL>",
        "rejected without a reason",
    ]
    assert {event.place for event in place.store.history()[3:]} == {"phoenix"}


def test_only_people_decide_and_the_label_wins_over_the_score(place):
    place.push()
    place.annotate(1, "approved", kind="LLM")
    place.annotate(2, "approved", name="quality")
    place.annotate(3, "rejected", score=1.0, words="no")
    place.pull()
    assert place.states() == ["pending_review", "pending_review", "rejected"]
    place.annotate(1, "unsure", score=1.0)
    place.pull()
    assert place.states()[0] == "pending_review"


def test_the_most_recent_of_several_people_decides(place):
    place.push()
    place.annotate(1, "rejected", who="bob", words="no")
    place.annotate(1, "approved", who="ada")
    place.pull()
    assert [place.states()[0], place.store.items()[0].who] == ["approved", "ada"]


def test_a_changed_verdict_is_another_event(place):
    place.push()
    place.annotate(1, "approved")
    place.pull()
    time.sleep(1.1)  # the server keeps whole seconds
    place.annotate(1, "rejected", words="on second thought")
    assert place.pull() == Pulled(1, ())
    assert place.pull() == Pulled(0, ())
    states = [event.after for event in place.store.history() if event.item == item(1).id]
    assert states == ["pending_review", "approved", "rejected"]


@pytest.mark.parametrize(
    "how",
    [
        {"metadata": {"corrected_output": {"agent": "travel_agent"}}},
        {"metadata": {"corrected_output": '{"agent": "travel_agent"}'}},
        {"words": '{"agent": "travel_agent"}'},
        {"label": "rejected", "metadata": {"corrected_output": agent("travel_agent")}},
    ],
)
def test_a_correction_approves_in_its_corrected_form(place, how):
    place.push()
    place.annotate(1, **how)
    assert place.pull() == Pulled(1, ())
    found = place.store.items()[0]
    assert found.state == "approved"
    assert found.final.answer[0].content == agent("travel_agent")
    assert found.final.tags["target"] == "travel_agent"
    assert place.store.history()[-1].correction == Correction(answer=agent("travel_agent"))
    assert place.pull() == Pulled(0, ())


def test_a_correction_that_cannot_be_taken_is_said_and_decides_nothing(place):
    place.push()
    place.annotate(1, metadata={"corrected_output": '{"agent": "nobody"}'})
    place.annotate(3, "approved")
    found = place.pull()
    assert found.decided == 1
    assert item(1).id in found.problems[0]
    assert "nobody, which does not exist" in found.problems[0]
    assert place.states() == ["pending_review", "pending_review", "approved"]


def test_what_was_decided_elsewhere_afterwards_stays(place):
    place.push()
    place.annotate(1, "approved")
    place.pull()
    later = "2099-01-01T00:00:00Z"
    seen = place.store.items()[0].seq
    place.store.decide(
        item(1).id, False, who="bob", place="terminal", at=later, why="no", seen=seen
    )
    place.annotate(3, "approved")
    place.store.decide(item(3).id, False, who="bob", place="terminal", at=later, why="no")
    assert place.pull() == Pulled(0, ())
    assert place.states() == ["rejected", "pending_review", "rejected"]


def test_a_decision_taken_back_does_not_come_again(place):
    place.push()
    place.annotate(1, "approved")
    place.pull()
    place.store.undo("ada", "terminal", "2099-01-01T00:00:00Z")
    assert place.pull() == Pulled(0, ())
    assert place.states()[0] == "pending_review"


def test_a_candidate_written_anew_shows_why_the_first_was_rejected(place):
    place.push()
    place.annotate(1, "rejected", words="too short")
    place.pull()
    anew = item(1, request="where is my invoice from March", attempt=1)
    place.store.submit([anew], SPEC, auto_approve_from=None, at=AT)
    assert place.push() == 1
    spans = {span["context"]["span_id"]: span for span in place.spans()}
    written = spans[span_id(place.project, anew.id)]["attributes"]
    assert written["metadata.rejected_before"] == "ada: too short"
    time.sleep(1.1)
    place.annotate(1, "approved")
    found = place.pull()
    assert found.decided == 0
    assert "written anew" in found.problems[0]


def test_a_review_without_a_project_has_nothing_to_take_over(place):
    assert place.pull() == Pulled(0, ())


def test_two_reviews_of_the_same_candidates_have_spans_of_their_own(place, phoenix, tmp_path):
    other = Place(phoenix, tmp_path / "other")
    assert place.push() == other.push() == 3
    place.annotate(1, "approved")
    other.pull()
    assert other.states() == ["pending_review"] * 3
    other.server.close()
    other.http.close()


def test_a_server_that_is_down_is_a_clear_error(tmp_path):
    server = Reviews(tmp_path, None).server("http://127.0.0.1:9")
    with pytest.raises(ServerError, match=r"review\.place=terminal reviews without a server"):
        pull(server, "acme-router-review", ReviewStore(tmp_path), ReviewOptions())
    server.close()
    assert isinstance(server, PhoenixServer)
