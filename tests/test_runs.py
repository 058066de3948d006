"""Which adapter of an earlier run is compared with a new one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tracetune.files import write_json
from tracetune.runs import previous_release

START = datetime(2026, 9, 24, tzinfo=UTC)
ROUTING = {"compare": "exact", "target": ["agent"]}


def released(
    root: Path, pipeline: str, version: str, *, base: str = "a", compare: str = "exact", until: str
) -> None:
    folder = root / pipeline / "release" / "adapter" / version / "adapter"
    folder.mkdir(parents=True)
    output = {"compare": compare, "target": ["agent"]}
    serving = {"base": {"weights_sha256": base}, "output": output, "trained_until": until}
    write_json(folder / "serving.json", serving)


def test_none_is_a_value_with_a_reason(tmp_path: Path) -> None:
    found = previous_release(tmp_path, "a", START, ROUTING)
    assert (found["path"], found["reason"]) == (None, "none was released")
    released(tmp_path, "dpo", "1", base="b", until="2026-09-01T00:00:00Z")
    released(tmp_path, "multi_turn", "2", compare="text", until="2026-09-01T00:00:00Z")
    found = previous_release(tmp_path, "a", START, ROUTING)
    assert found["path"] is None
    assert found["reason"] == "1 were made for another base model, 1 were made for another task"


@pytest.mark.parametrize(
    ("until", "saw"), [("2026-09-24T00:00:00Z", False), ("2026-09-25T00:00:00Z", True)]
)
def test_the_newest_of_any_pipeline_for_the_same_base_and_task(
    tmp_path: Path, until: str, saw: bool
) -> None:
    released(tmp_path, "dpo", "2026-09-01", until="2026-08-01T00:00:00Z")
    released(tmp_path, "sft", "2026-10-01", until=until)
    released(tmp_path, "multi_turn", "2026-10-02", compare="text", until=until)
    found = previous_release(tmp_path, "a", START, ROUTING)
    assert (found["pipeline"], found["version"]) == ("sft", "2026-10-01")
    assert found["saw_test_window"] is saw
    talk = previous_release(tmp_path, "a", START, {"compare": "text"})
    assert talk["pipeline"] == "multi_turn"
