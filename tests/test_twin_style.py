"""Files of turns for trained heads: what their coordinates may know, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.heads.helpers import conversation, jsonl, reference, write_folder
from tracetune.errors import ConfigurationError, DataError
from tracetune.files import write_json
from tracetune.privacy import PrivacyOptions
from tracetune.twin_style import turns_in

PRIVACY = PrivacyOptions()


def test_rows_without_a_word_on_their_variant_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    found, _ = conversation(1)
    file.write_text(jsonl(found))
    with pytest.raises(DataError, match="--variant full"):
        turns_in(file, reference(), PRIVACY)
    assert turns_in(file, reference(), PRIVACY, variant="causal") == found
    with pytest.raises(ConfigurationError, match="is 'full', the heads were trained on 'causal'"):
        turns_in(file, reference(), PRIVACY, variant="full")


def test_rows_of_the_pipeline_say_their_variant(tmp_path: Path) -> None:
    causal = write_folder(tmp_path / "causal") / "train.jsonl"
    full = write_folder(tmp_path / "full", variant="full") / "train.jsonl"
    assert turns_in(causal, reference(), PRIVACY)
    assert turns_in(full, reference("full"), PRIVACY)
    with pytest.raises(ConfigurationError, match="is 'full', the heads were trained on 'causal'"):
        turns_in(full, reference(), PRIVACY)
    with pytest.raises(ConfigurationError, match="said to be 'causal'"):
        turns_in(full, reference(), PRIVACY, variant="causal")


def test_another_second_coordinate_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "rows")
    made = reference().model_copy(update={"sibling_order": "regeneration"})
    write_json(folder / "reference.json", made.model_dump(mode="json"))
    with pytest.raises(ConfigurationError, match="sibling_order of the coordinates is 'regen"):
        turns_in(folder / "train.jsonl", reference(), PRIVACY)
    (folder / "reference.json").write_text("{}")
    with pytest.raises(DataError, match="does not say how coordinates are made"):
        turns_in(folder / "train.jsonl", reference(), PRIVACY)


def test_coordinates_of_conversations_are_made_as_the_heads_need_them(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text(
        '{"id": "a", "messages": [{"role": "user", "content": "Hi"}, '
        '{"role": "assistant", "content": "Hello"}]}\n'
    )
    depths = {
        variant: [row.trajectory.coordinates[0] for row in turns_in(file, made, PRIVACY)]
        for variant, made in (("causal", reference()), ("full", reference("full")))
    }
    assert depths["full"] == [0, 1]
    assert depths["causal"] == [0, pytest.approx(1 / 3)]
    with pytest.raises(ConfigurationError, match="leave --variant out"):
        turns_in(file, reference(), PRIVACY, variant="full")
