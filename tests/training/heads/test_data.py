"""The folder of rows: what it must hold, and what is said if it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.heads.helpers import write_folder
from tracetune.errors import DataError
from tracetune.files import write_text
from tracetune.training.heads.data import load_dataset

Line = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "rows", train=4, validation=2)


def change(path: Path, number: int, edit: Callable[[Line], Any]) -> None:
    lines = path.read_text().splitlines()
    document = json.loads(lines[number])
    edit(document)
    lines[number] = json.dumps(document)
    write_text(path, "\n".join(lines) + "\n")


def test_rows_their_targets_and_their_next_turns_belong_together(folder: Path) -> None:
    found = load_dataset(folder)
    assert len(found.train) == 2 + 3 + 4 + 5
    assert len(found.validation) == 2 + 3
    assert found.train.next_rows[:5] == [[1], [], [3, 4], [4], []]
    assert found.train.extras[2].row_id == found.train.rows[2].row_id == "c1#0"
    assert sum(found.train.support.values()) == len(found.train)


def trajectory(name: str, value: Any) -> Callable[[Line], Any]:
    return lambda line: line["trajectory"].update({name: value})


def without(*names: str) -> Callable[[Line], Any]:
    def edit(line: Line) -> None:
        for name in names[:-1]:
            line = line[name]
        del line[names[-1]]

    return edit


BAD: list[tuple[Callable[[Line], Any], str]] = [
    (without("trajectory"), "trajectory"),
    (without("trajectory", "phase_id"), "trajectory.phase_id"),
    (without("trajectory", "coordinates"), "trajectory.coordinates"),
    (without("trajectory", "homogeneity"), "trajectory.homogeneity"),
    (without("trajectory", "turn_index"), "trajectory.turn_index"),
    (without("conversation_id"), "conversation_id"),
    (without("messages"), "messages"),
    (lambda line: line.update(messages=[]), "messages"),
    (lambda line: line["messages"][0].update(role="tool"), "messages.0.role"),
    (lambda line: line["messages"][0].update(content="  "), "content is blank"),
    (trajectory("coordinates", [0.1, 0.2, 0.5, 0.3]), "trajectory.coordinates"),
    (trajectory("coordinates", [0.1, 0.2, 0.5, 0.3, 1.01]), "trajectory.coordinates.4"),
    (trajectory("coordinates", [-0.1, 0.2, 0.5, 0.3, 1]), "trajectory.coordinates.0"),
    (trajectory("coordinates", ["a", 0.2, 0.5, 0.3, 1]), "trajectory.coordinates.0"),
    (trajectory("homogeneity", 0.4), "homogeneity is 0.4"),
    (trajectory("phase_id", 6), "trajectory.phase_id"),
    (trajectory("turn_index", -1), "trajectory.turn_index"),
    (lambda line: line.update(note="x"), "note"),
]


@pytest.mark.parametrize(("edit", "field"), BAD)
def test_a_bad_row_is_named_by_file_line_and_field(
    folder: Path, edit: Callable[[Line], Any], field: str
) -> None:
    change(folder / "train.jsonl", 2, edit)
    with pytest.raises(DataError, match=field.replace(".", r"\.")) as error:
        load_dataset(folder)
    assert "train.jsonl, line 3" in str(error.value)
    assert error.value.remedy


SIDECAR: list[tuple[Callable[[Line], Any], str]] = [
    (lambda line: line["patterns"].append(True), "patterns"),
    (lambda line: line.update(variant="full"), "says 'causal'"),
    (lambda line: line.update(next_rows=["c1#2"]), "next_rows"),
    (lambda line: line.update(row_id="c0#0", conversation_id="c0", turn_index=0), "next_rows"),
    (lambda line: line.update(role="assistant"), "is a turn of the assistant"),
]


@pytest.mark.parametrize(("edit", "message"), SIDECAR)
def test_a_bad_sidecar_is_named(folder: Path, edit: Callable[[Line], Any], message: str) -> None:
    change(folder / "sidecar.jsonl", 2, edit)
    with pytest.raises(DataError, match=message):
        load_dataset(folder)


def test_a_row_without_its_targets_is_refused(folder: Path) -> None:
    lines = (folder / "sidecar.jsonl").read_text().splitlines()
    write_text(folder / "sidecar.jsonl", "\n".join(lines[1:]) + "\n")
    with pytest.raises(DataError, match="does not know row 'c0#0'"):
        load_dataset(folder)


def test_twice_the_same_row_is_refused(folder: Path) -> None:
    text = (folder / "train.jsonl").read_text()
    write_text(folder / "train.jsonl", text + text.splitlines()[0] + "\n")
    with pytest.raises(DataError, match="row 'c0#0' comes twice"):
        load_dataset(folder)


def test_a_conversation_on_both_sides_is_refused(folder: Path) -> None:
    lines = (folder / "train.jsonl").read_text()
    write_text(folder / "validation.jsonl", lines)
    with pytest.raises(DataError, match="4 conversations stand in training and in validation"):
        load_dataset(folder)


def test_a_conversation_in_pieces_is_refused(folder: Path) -> None:
    lines = (folder / "train.jsonl").read_text().splitlines()
    write_text(folder / "train.jsonl", "\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="the next turn 'c3#4' of row 'c3#0' is not in this file"):
        load_dataset(folder)


@pytest.mark.parametrize("name", ["train.jsonl", "sidecar.jsonl", "reference.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"there is no {name}"):
        load_dataset(folder)


def test_a_reference_that_is_none_is_refused(folder: Path) -> None:
    write_text(folder / "reference.json", '{"variant": "past"}')
    with pytest.raises(DataError, match="not a reference"):
        load_dataset(folder)
