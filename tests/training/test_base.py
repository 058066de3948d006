"""The base model: embedded, local, from the hub; what is refused."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from tests.training.helpers import TINY
from tracetune.errors import ConfigurationError, DataError, GateError, ServerError
from tracetune.files import sha256_folder, write_json
from tracetune.pipelines.prepare_stage import resolve_base
from tracetune.records import Message, make_example
from tracetune.training import base as base_model
from tracetune.training import embedded, embedded_programs, embedded_text, leaks
from tracetune.training.base import BaseModelRef
from tracetune.training.options import BaseModelOptions, EmbeddedRecipe

pytestmark = pytest.mark.training


def test_the_same_recipe_gives_the_same_files(base: BaseModelRef, tmp_path: Path) -> None:
    again = embedded.build(TINY, tmp_path)
    assert sha256_folder(again) == sha256_folder(Path(base.path))
    assert again.name == Path(base.path).name == base.revision


def test_the_cache_is_used(
    base: BaseModelRef, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "train_tokenizer", None)  # would fail if it were called
    assert embedded.build(TINY, cache) == Path(base.path)


def test_another_recipe_has_another_place() -> None:
    other = TINY.model_copy(update={"seed": 8})
    assert embedded.recipe_hash(other) != embedded.recipe_hash(TINY)


def test_a_killed_build_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_pretrain", fail)
    with pytest.raises(KeyboardInterrupt):
        embedded.build(TINY, tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_shape_of_the_default_recipe() -> None:
    recipe = EmbeddedRecipe()
    assert recipe.hidden_size % 256 == recipe.intermediate_size % 256 == 0
    with pytest.raises(ValueError, match="multiple of 256"):
        EmbeddedRecipe(hidden_size=300)


def test_the_text_is_seeded_and_has_no_short_requests() -> None:
    first = embedded_text.conversations(3, 200)
    assert first == embedded_text.conversations(3, 200)
    assert first != embedded_text.conversations(4, 200)
    assert all(len(text.split()) >= 4 for text in embedded_text.texts(3, 200))
    # the task of the pipelines is not in it
    assert not any("_agent" in turn["content"] for talk in first for turn in talk)


def test_what_is_asked_of_invented_programs_stands_in_the_answer() -> None:
    writer = embedded_programs.Programs(random.Random(5))
    numbers = 0
    for _ in range(200):
        talk = writer.conversation()
        for user, answer in zip(talk[1::2], talk[2::2], strict=True):
            value = json.loads(answer["content"])
            if value["type"] != "command":
                continue
            for name, given in value["args"].items():
                numbers += isinstance(given, int)
                assert str(given) in user["content"], (name, user, answer)
    assert numbers > 100


def test_a_number_is_read_digit_by_digit(base: BaseModelRef) -> None:
    tokenizer = base_model.load_tokenizer(base)
    said = tokenizer("close ticket 931", add_special_tokens=False)["input_ids"]
    written = tokenizer('{"number":931}', add_special_tokens=False)["input_ids"]
    digits = tokenizer("931", add_special_tokens=False)["input_ids"]
    assert len(digits) == 3
    assert said[-3:] == digits
    assert written[-4:-1] == digits


def test_the_answers_are_found_as_the_template_marks_them(base: BaseModelRef) -> None:
    tokenizer = base_model.load_tokenizer(base)
    for talk in embedded_text.conversations(3, 30):
        marked = tokenizer.apply_chat_template(
            talk, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        found = embedded._answers(marked["input_ids"], tokenizer)
        assert [int(bit) for bit in found] == marked["assistant_masks"]


def test_a_held_out_row_in_the_text_is_found() -> None:
    known = embedded_text.texts(TINY.seed, TINY.conversations)
    report = embedded.check_no_leak(TINY, ["a sentence nobody ever generated from the corpus"])
    assert (report.exact, report.near, report.held_out) == ([], [], 1)
    with pytest.raises(GateError, match="1 held-out texts are in the text"):
        embedded.check_no_leak(TINY, [known[0].upper() + "!"])
    long = "one two three four five six seven eight nine ten eleven twelve"
    with pytest.raises(GateError, match="1 nearly are"):
        leaks.check_no_leak([long], [long + " thirteen"])


def test_a_local_folder_is_a_base_model(base: BaseModelRef) -> None:
    ref = base_model.resolve(BaseModelOptions(id=base.path), Path("unused"))
    assert (ref.kind, ref.id, ref.profile) == ("local", Path(base.path).name, "default")
    assert ref.weights_sha256 == base.weights_sha256
    assert ref.parameters == base.parameters == 590_592


def _hub(base: BaseModelRef, root: Path) -> None:
    commit = "a" * 40
    model = root / "models--someone--tiny"
    shutil.copytree(base.path, model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)


def test_a_model_in_the_hub_cache_needs_no_network(
    base: BaseModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    _hub(base, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    ref = base_model.resolve(BaseModelOptions(id="someone/tiny"), tmp_path)
    assert (ref.kind, ref.revision) == ("hub", "a" * 40)
    assert ref.weights_sha256 == base.weights_sha256
    with pytest.raises(ServerError, match="not in the local hub cache"):
        base_model.resolve(BaseModelOptions(id="someone/other"), tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"id": "embedded", "revision": "main"}, "no revisions"),
        ({"id": "./nowhere"}, "there is no folder"),
        ({"id": "embedded", "profile": "huge"}, "no profile 'huge'"),
    ],
)
def test_wrong_options_are_named(options: dict, text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=text):
        base_model.resolve(BaseModelOptions(**options), tmp_path, TINY)


def test_models_that_cannot_be_used_are_refused(base: BaseModelRef, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ConfigurationError, match=r"no config\.json"):
        base_model.resolve(BaseModelOptions(id=str(folder)), tmp_path)
    shutil.copytree(base.path, folder, dirs_exist_ok=True)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigurationError, match="no chat template"):
        base_model.resolve(BaseModelOptions(id=str(folder)), tmp_path)
    write_json(folder / "config.json", {"auto_map": {"AutoModel": "evil.Model"}})
    with pytest.raises(ConfigurationError, match="never run"):
        base_model.resolve(BaseModelOptions(id=str(folder)), tmp_path)


def test_a_changed_base_is_noticed(base: BaseModelRef, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(base.path, folder)
    ref = base_model.resolve(BaseModelOptions(id=str(folder)), tmp_path)
    base_model.verify(ref)
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.seek(-4, 2)
        weights.write(b"\x01\x02\x03\x04")
    with pytest.raises(DataError, match="weights_sha256"):
        base_model.verify(ref)


def test_a_held_out_request_is_found_behind_the_lines_of_its_context(
    base: BaseModelRef, tmp_path: Path
) -> None:
    asked = next(text for text in embedded_text.texts(TINY.seed, TINY.conversations))
    row = make_example(
        prompt=[Message(role="user", content=f"repo: acme/site\nbranch: main\npr: #12\n\n{asked}")],
        completion=[Message(role="assistant", content="{}")],
        tags={"context": "yes"},
        source="cli",
        tenant="demo",
        ids={"cell": "a"},
        group="a",
        created_at=None,
    )
    models = tmp_path / "models"
    shutil.copytree(base.path, models / Path(base.path).name)
    with pytest.raises(GateError, match="1 held-out texts are in the text"):
        resolve_base(BaseModelOptions(), TINY, [row], models)
