"""CTv3.1: the schema, and export and import without loss."""

from __future__ import annotations

import json
from datetime import UTC

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.conversations.builders import CODE, DIRECTIVE, SAMPLE, conversation, surgery
from tracetune.conversations.exchange_files import read_records, write_records
from tracetune.conversations.read import read_folder
from tracetune.datasets.jsonl_dataset import JSONLDataset
from tracetune.errors import DataError
from tracetune.records import Message
from tracetune.records.ctv3 import (
    CTV3,
    Answer,
    Candidates,
    Checks,
    Ctv3Attachment,
    Ctv3Context,
    Ctv3Extra,
    Ctv3Input,
    Ctv3Source,
    DpoPair,
    EvalCase,
    FormatConstraints,
    Policy,
    Quality,
    Reference,
    RepoTask,
    RepoTaskTurn,
    SftTurn,
    Span,
    Structured,
    Tags,
    Topology,
    json_schema,
)

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SOLID = TEXT.filter(lambda text: bool(text.strip()))
UNIT = st.floats(0, 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def messages():
    def build(system, turns, last):
        roles = ("user", "assistant")
        first = [Message(role="system", content=system)] if system is not None else []
        middle = [Message(role=roles[n % 2], content=text) for n, text in enumerate(turns)]
        return [*first, *middle, Message(role="user", content=last)]

    return st.builds(build, st.none() | TEXT, st.lists(TEXT, max_size=4), TEXT)


SPANS = st.builds(
    lambda a, b: Span(start_line=a, end_line=a + b), st.integers(1, 99), st.integers(0, 9)
)
ANSWERS = st.builds(
    Answer,
    assistant_content=SOLID,
    structured=st.builds(
        Structured,
        diff_unified=st.none() | TEXT,
        json_value=JSON,
        plan_steps=st.none() | st.lists(TEXT, max_size=3),
    ),
)
COMMON = {
    "record_id": st.uuids(version=4).map(str),
    "source": st.builds(
        Ctv3Source,
        source_id=SOLID,
        created_at_utc=st.none() | st.datetimes(timezones=st.just(UTC)),
    ),
    "context": st.builds(
        Ctv3Context,
        language=TEXT,
        topology=st.builds(
            Topology,
            coords_5d=st.lists(UNIT, min_size=5, max_size=5),
            phase_id=st.integers(0, 5),
            homogeneity=UNIT,
            depth_norm=UNIT,
            sibling_order=UNIT,
            temporal_norm=UNIT,
            complexity=UNIT,
        ),
        policy=st.builds(
            Policy,
            directive_completeness=UNIT,
            must_not_omit=st.lists(TEXT, max_size=2),
            format_constraints=st.builds(
                FormatConstraints, **dict.fromkeys(FormatConstraints.model_fields, st.booleans())
            ),
        ),
    ),
    "input": st.builds(
        Ctv3Input,
        messages=messages(),
        attachments=st.lists(
            st.builds(
                Ctv3Attachment,
                type=SOLID,
                repo=st.none() | TEXT,
                commit_sha=st.none() | TEXT,
                path=st.none() | TEXT,
                span=st.none() | SPANS,
                content=st.none() | TEXT,
            ),
            max_size=2,
        ),
    ),
}
TAGS = st.builds(
    Tags,
    repo_task=st.none() | st.builds(RepoTask, module=TEXT, symbols=st.lists(TEXT, max_size=2)),
    dpo_reason=st.none() | TEXT,
    branch_type=st.none() | TEXT,
    enhancement_type=st.none() | TEXT,
)
QUALITY = st.builds(Quality, weight=st.floats(0, 10))
PAIRS = (
    st.tuples(ANSWERS, ANSWERS)
    .filter(lambda p: p[0].assistant_content.strip() != p[1].assistant_content.strip())
    .map(lambda p: Candidates(preferred=p[0], dispreferred=p[1]))
)
RECORDS = st.one_of(
    st.builds(SftTurn, **COMMON, quality=QUALITY, target=ANSWERS, tags=TAGS),
    st.builds(RepoTaskTurn, **COMMON, quality=QUALITY, target=ANSWERS, tags=TAGS),
    st.builds(DpoPair, **COMMON, quality=QUALITY, candidates=PAIRS, tags=TAGS),
    st.builds(
        EvalCase,
        **COMMON,
        quality=st.builds(Quality, weight=st.just(0.0)),
        checks=st.builds(Checks, disallowed_phrases=st.lists(TEXT, max_size=2)),
        reference=st.builds(Reference, answer=st.none() | TEXT),
    ),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(RECORDS, max_size=2))
def test_export_and_import_lose_nothing(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("ctv3") / "records.jsonl"
    assert write_records(path, records) == len(records)
    assert list(read_records(path)) == records
    first = path.read_bytes()
    write_records(path, read_records(path))
    assert path.read_bytes() == first
    for line in first.decode("utf-8").split("\n")[:-1]:
        assert VALIDATOR.is_valid(json.loads(line))


def test_the_fields_are_those_of_the_schema():
    [turn] = surgery(conversation(DIRECTIVE, CODE))[0].sft
    value = json.loads(CTV3.dump_json(turn))
    common = {"schema_version", "record_id", "record_type", "source", "context", "input", "quality"}
    assert set(value) == common | {"target", "tags"}
    assert set(value["source"]) == {"origin", "provider", "source_id", "created_at_utc"}
    assert set(value["context"]) == {"domain", "language", "topology", "policy"}
    assert set(value["context"]["policy"]) == {
        "question_policy",
        "directive_completeness",
        "must_not_omit",
        "format_constraints",
    }
    assert set(value["target"]["structured"]) == {"diff_unified", "json", "plan_steps"}
    assert value["schema_version"] == "ctv3.1"
    defaults = Topology()
    assert defaults.coords_5d == [0, 0, 0.5, 0.5, 1]
    assert (defaults.phase_id, defaults.homogeneity) == (2, 0.5)
    assert Policy().directive_completeness == 0.8
    assert Checks().must_not_end_with_question


def changed(**changes):
    [turn] = surgery(conversation(DIRECTIVE, CODE))[0].sft
    value = json.loads(CTV3.dump_json(turn))
    for path, new in changes.items():
        *steps, last = path.split("__")
        inner = value
        for step in steps:
            inner = inner[step]
        inner[last] = new
    return json.dumps(value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, "Extra inputs"),
        ({"schema_version": "ctv3.0"}, "schema_version"),
        ({"record_type": "poem"}, "record_type"),
        ({"record_id": "1"}, "record_id"),
        ({"source__origin": "somewhere"}, "origin"),
        ({"quality__weight": -1}, "weight"),
        ({"quality__weight": "1"}, "weight"),
        ({"context__topology__coords_5d": [0, 0]}, "coords_5d"),
        ({"context__policy__directive_completeness": 1.1}, "directive_completeness"),
        ({"target__assistant_content": "  "}, "blank"),
        ({"input__messages": [{"role": "assistant", "content": "x"}]}, "no user turn"),
        ({"tags__task_type": "sing"}, "task_type"),
    ],
)
def test_what_breaks_the_schema_is_refused(tmp_path, changes, message):
    line = changed(**changes)
    with pytest.raises(ValidationError, match=message):
        CTV3.validate_json(line)
    path = tmp_path / "records.jsonl"
    path.write_text(changed() + "\n" + line + "\n")
    with pytest.raises(DataError, match="line 2") as error:
        list(read_records(path))
    assert "records.jsonl" in str(error.value)


def test_pairs_and_cases_have_their_own_rules():
    answer = Answer(assistant_content="same")
    with pytest.raises(ValidationError, match="teaches nothing"):
        Candidates(preferred=answer, dispreferred=Answer(assistant_content=" same "))
    built, _, _ = surgery(conversation(DIRECTIVE, "Shall I?", "stop asking!", CODE))
    [case] = built.evals
    with pytest.raises(ValidationError, match="evaluation case is 0"):
        EvalCase.model_validate(case.model_dump() | {"quality": {"gold": False, "weight": 1.0}})


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path):
    [turn] = surgery(conversation(DIRECTIVE, CODE))[0].sft
    bad = turn.model_copy(update={"record_id": "x"})
    with pytest.raises(DataError, match=r"record 2.*record_id"):
        write_records(tmp_path / "out.jsonl", [turn, bad])
    assert list(tmp_path.iterdir()) == []


def test_the_project_s_dataset_carries_them(tmp_path):
    built, _, _ = surgery(*read_folder(SAMPLE))
    for kind, rows in (
        (SftTurn, built.sft),
        (DpoPair, built.pairs),
        (EvalCase, built.evals),
        (Ctv3Extra, built.extras),
    ):
        dataset = JSONLDataset(
            filepath=str(tmp_path / f"{kind.__name__}.jsonl"),
            record=f"tracetune.records.ctv3.{kind.__name__}",
        )
        dataset.save(rows)
        assert dataset.load() == rows
