"""Values of a file one after the other: huge, cut, broken."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracetune.conversations import stream
from tracetune.conversations.stream import items
from tracetune.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=8), VALUES, max_size=4), max_size=6)


@given(OBJECTS, st.sampled_from([None, 0, 2]), st.booleans(), st.integers(1, 40))
def test_arrays_and_lines_give_the_same_values(tmp_path_factory, values, indent, ascii, block):
    folder = tmp_path_factory.mktemp("stream")
    array, lines = folder / "a.json", folder / "b.jsonl"
    array.write_text(json.dumps(values, indent=indent, ensure_ascii=ascii), encoding="utf-8")
    lines.write_text("".join(json.dumps(v, ensure_ascii=ascii) + "\n" for v in values) or "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "_BLOCK", block)  # values then reach over many blocks
        assert [item.value for item in items(array)] == values
        if values:
            assert [item.value for item in items(lines)] == values


def test_a_large_file_is_never_in_memory(tmp_path):
    path = tmp_path / "large.json"
    one = json.dumps({"text": "x" * 20_000, "deep": [[{"a": '"}]'}]] * 50})
    with path.open("w") as handle:
        handle.write("[\n" + ",\n".join([one] * 500) + "\n]\n")
    assert path.stat().st_size > 10_000_000
    tracemalloc.start()
    count = sum(1 for _ in items(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 500
    assert peak < 3_000_000


def test_lines_are_counted(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n{"a": "two\\nlines"}\n{\n "a": 3\n}\n{"a": 4}')
    assert [(item.number, item.line) for item in items(path)] == [(1, 1), (2, 3), (3, 4), (4, 7)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (" \n ", "the file is empty"),
        ('[{"a": 1}, {"b": ', "ends in the middle, after 1 whole conversations"),
        ('[{"a": 1},', "ends in the middle, after 1 whole conversations"),
        ('[{"a": 1}', "ends in the middle"),
        ('{"a": "text', "ends in the middle, after 0 whole"),
        ('[{"a": 1} {"b": 2}]', "a comma is missing"),
        ('[{"a": 1}] extra', "something stands after the end"),
        ('[{"a": 1,}]', "it is not JSON"),
        ('[{"a": 1}, {"b": nul}]', "conversation 2, line 1.*it is not JSON"),
        ('{"a": 1}\n{"b": [}]}\n', "conversation 2, line 2.*it is not JSON"),
        ("hello\n", "it is not JSON"),
        ("PK\x03\x04zip", "ZIP archive"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    ],
)
def test_broken_files_are_named_with_their_place(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        list(items(path))
    assert "x.json" in str(error.value)


def test_other_encodings_and_missing_files(tmp_path):
    path = tmp_path / "latin.json"
    path.write_bytes('[{"a": "ü"}]'.encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        list(items(path))
    path.write_bytes(b"\xef\xbb\xbf" + b'[{"a": 1}]')
    assert [item.value for item in items(path)] == [{"a": 1}]
    with pytest.raises(DataError, match="no such file"):
        list(items(tmp_path / "none.json"))


def test_values_before_a_break_are_given(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('[{"a": 1}, {"a": 2}, {"a": ')
    found = []
    with pytest.raises(DataError, match="after 2 whole"):
        found.extend(item.value for item in items(path))
    reader = items(path)
    assert [next(reader).value, next(reader).value] == [{"a": 1}, {"a": 2}]
