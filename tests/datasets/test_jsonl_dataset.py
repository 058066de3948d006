"""JSONL of contract rows: exact round trip, clear errors, nothing half written."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kedro.io import DatasetError, Version

from tracetune.datasets.jsonl_dataset import JSONLDataset
from tracetune.eisv.mix import fill_up
from tracetune.eisv.options import MixOptions
from tracetune.errors import DataError
from tracetune.records import Example, Message, make_example, make_preference

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40).filter(
    lambda text: text.strip()
)


def example(prompt="Where is my invoice?", answer='{"agent": "billing_agent"}', session="s1"):
    return make_example(
        prompt=[Message(role="system", content="Route."), Message(role="user", content=prompt)],
        completion=[Message(role="assistant", content=answer)],
        source="phoenix",
        tenant="demo",
        ids={"span_id": "ab12"},
        group=f"session:{session}",
        created_at=datetime(2026, 9, 1, 12, 0, 0, 123456, tzinfo=UTC),
    )


def dataset(path, record="tracetune.records.Example", **kwargs):
    return JSONLDataset(filepath=str(path / "rows.jsonl"), record=record, **kwargs)


@given(rows=st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_round_trip_is_exact(tmp_path_factory, rows):
    data = dataset(tmp_path_factory.mktemp("rows"))
    written = [example(prompt, answer) for prompt, answer in rows]
    data.save(written)
    assert data.load() == written


def test_equal_rows_give_equal_bytes(tmp_path):
    first, second = dataset(tmp_path / "a"), dataset(tmp_path / "b")
    first.save([example(), example("What is the weather? ☂️")])
    second.save(row for row in [example(), example("What is the weather? ☂️")])
    assert (tmp_path / "a/rows.jsonl").read_bytes() == (tmp_path / "b/rows.jsonl").read_bytes()


def broken(line, **changes):
    row = json.loads(line)
    row.update(changes)
    return json.dumps(row)


@pytest.mark.parametrize(
    ("spoil", "field", "reason"),
    [
        (lambda line: "{not json", "row", "Invalid JSON"),
        (lambda line: broken(line, prompt=[]), "prompt", "at least 1 item"),
        (lambda line: broken(line, surprise=1), "surprise", "Extra inputs"),
        (lambda line: broken(line, completion="billing_agent"), "completion", "valid array"),
        (
            lambda line: broken(line, completion=[{"role": "assistant", "content": "other"}]),
            "row",
            "content_hash does not match",
        ),
    ],
)
def test_bad_line_names_file_line_field_and_reason(tmp_path, spoil, field, reason):
    data = dataset(tmp_path)
    data.save([example(), example("second")])
    path = tmp_path / "rows.jsonl"
    lines = path.read_text().splitlines()
    path.write_text(lines[0] + "\n" + spoil(lines[1]) + "\n")
    with pytest.raises(DatasetError) as caught:
        data.load()
    cause = caught.value.__cause__
    assert isinstance(cause, DataError)
    message = str(cause)
    assert f"{path}, line 2" in message
    assert f"field '{field}'" in message
    assert reason in message


def test_row_that_skipped_validation_is_refused_and_nothing_is_left(tmp_path):
    data = dataset(tmp_path)
    data.save([example()])
    before = (tmp_path / "rows.jsonl").read_bytes()
    forged = example().model_copy(update={"prompt": []})
    with pytest.raises(DatasetError, match="prompt"):
        data.save([example(), forged])
    assert (tmp_path / "rows.jsonl").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_failing_iterable_leaves_no_version(tmp_path):
    def rows():
        yield example()
        raise RuntimeError("source went away")

    data = dataset(tmp_path, version=Version(None, "2026-01-01T00.00.00.000Z"))
    with pytest.raises(DatasetError, match="source went away"):
        data.save(rows())
    assert not data.exists()


def test_wrong_contract_is_refused(tmp_path):
    pair = make_preference(
        prompt=[Message(role="user", content="hello")],
        chosen=[Message(role="assistant", content="a")],
        rejected=[Message(role="assistant", content="b")],
        source="phoenix",
        tenant="demo",
        ids={},
        group="g",
        created_at=None,
    )
    with pytest.raises(DatasetError, match="Preference where Example"):
        dataset(tmp_path).save([pair])


def test_unknown_contract_is_a_configuration_error(tmp_path):
    with pytest.raises(DatasetError, match="not a contract"):
        dataset(tmp_path, record="tracetune.records.Nothing").save([])


def test_preview_reads_only_the_first_rows(tmp_path):
    data = dataset(tmp_path)
    data.save(example(f"question {number}") for number in range(50))
    preview = data.preview(nrows=3)
    assert len(preview["data"]) == 3
    assert "question 0" in preview["data"][0][preview["columns"].index("prompt")]


def test_preview_shows_lists_that_are_no_conversation(tmp_path):
    data = dataset(tmp_path, record="tracetune.records.EisvTrajectory")
    rows, _ = fill_up([], MixOptions(min_per_shape=1), tenant="demo", seed=1)
    data.save(rows)
    preview = data.preview(nrows=2)
    shown = preview["data"][0][preview["columns"].index("states")]
    assert "E=0." in shown
    assert shown.count("; ") == 2
    assert shown.endswith("… 20 in all")
    assert preview["data"][0][preview["columns"].index("expressions")] == ""


def test_lone_surrogate_is_refused():
    with pytest.raises(ValueError, match="surrogate"):
        Message(role="user", content="\ud800")


def test_naive_time_is_refused():
    text = example().model_dump_json()
    with pytest.raises(ValueError, match="timezone"):
        Example.model_validate_json(text.replace("00:00.123456Z", "00:00"))
