"""The Modelfile of Ollama: the same prompts as the chat template, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.export.models import CHATML, ODD, SHAPES
from tracetune.errors import DataError
from tracetune.export import modelfile
from tracetune.export.modelfile import Modelfile, render_go
from tracetune.training.base import load_tokenizer
from tracetune.training.embedded import TEMPLATE as EMBEDDED


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "x-q8_0.gguf"
    path.write_bytes(b"GGUF")
    return path


def make(gguf: Path, tokenizer: Any, instruction: str | None = None, **options: Any) -> Modelfile:
    settings = {"context": 512, "end": "<|im_end|>", "add_bos": False, **options}
    return modelfile.write(gguf, tokenizer, instruction=instruction, **settings)


def template_of(text: str) -> str:
    return text.split('TEMPLATE """')[1].split('"""')[0]


def prompt(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
TALKS = st.tuples(TEXT, st.lists(st.tuples(TEXT, TEXT), max_size=2), TEXT).map(
    lambda parts: [
        {"role": "system", "content": parts[0]},
        *[
            {"role": role, "content": content}
            for turn in parts[1]
            for role, content in zip(("user", "assistant"), turn, strict=True)
        ],
        {"role": "user", "content": parts[2]},
    ]
)


@given(messages=TALKS)
def test_go_and_jinja_write_the_same_for_any_conversation(messages):
    from jinja2 import Template

    jinja = Template(CHATML, keep_trailing_newline=True)
    expected = jinja.render(messages=messages, add_generation_prompt=True)
    assert render_go(modelfile.TEMPLATES["chatml"], messages) == expected


@pytest.mark.parametrize(
    "template",
    ["no loop", "{{ range .Messages }}{{ .Tools }}{{ end }}", "{{ if .System }}x{{ end }}"],
)
def test_a_template_that_the_renderer_does_not_know_is_an_error(template):
    with pytest.raises(ValueError, match=r"not one loop|is not known"):
        render_go(template, [{"role": "user", "content": "a"}])


def test_the_whole_file(gguf, tiny):
    found = make(gguf, load_tokenizer(tiny["qwen3"]), 'Answer "in" JSON: {"a": 1}\nNow.')
    assert found.text == (
        "FROM ./x-q8_0.gguf\n"
        'TEMPLATE """{{ range .Messages }}<|im_start|>{{ .Role }}\n'
        "{{ .Content }}<|im_end|>\n"
        '{{ end }}<|im_start|>assistant\n"""\n'
        'SYSTEM """Answer "in" JSON: {"a": 1}\nNow."""\n'
        "PARAMETER temperature 0\n"
        "PARAMETER num_ctx 512\n"
        'PARAMETER stop "<|im_end|>"\n'
    )
    assert (found.family, found.notes) == ("chatml", ())


def test_the_embedded_template_keeps_its_beginning(gguf, tiny):
    tokenizer = load_tokenizer(tiny["qwen3"])
    tokenizer.chat_template = EMBEDDED
    tokenizer.bos_token = "<|endoftext|>"
    found = make(gguf, tokenizer, "Answer.")
    assert found.text is not None
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": " u "}]
    assert render_go(template_of(found.text), messages) == prompt(tokenizer, messages)
    assert template_of(found.text).startswith("<|endoftext|>{{ range")


def test_a_beginning_that_the_runtime_writes_is_not_written_twice(gguf, tiny):
    found = make(gguf, load_tokenizer(tiny["llama"]), add_bos=True, end="<|eot_id|>")
    assert found.family == "llama3"
    assert found.text is not None
    assert template_of(found.text).startswith("{{ range .Messages }}<|start_header_id|>")
    assert 'PARAMETER stop "<|eot_id|>"' in found.text
    [note] = found.notes
    assert "removes blanks" in note


def test_a_default_system_turn_becomes_that_of_the_file(gguf, tiny):
    tokenizer = load_tokenizer(tiny["qwen2"])
    assert tokenizer.chat_template == SHAPES["qwen2"].template
    found = make(gguf, tokenizer)
    assert found.text is not None
    assert 'SYSTEM """You are a helpful desk."""' in found.text
    # An instruction of the release takes its place.
    text = make(gguf, tokenizer, "Be brief.").text
    assert text is not None
    assert "helpful desk" not in text


@pytest.mark.parametrize(
    ("template", "reason"),
    [(ODD, "none of those known in Go's syntax"), ("{{ raise_exception('no') }}", "none of those")],
)
def test_an_unknown_template_is_left_out_with_the_reason(gguf, tiny, template, reason):
    tokenizer = load_tokenizer(tiny["qwen3"])
    tokenizer.chat_template = template
    found = make(gguf, tokenizer)
    assert found.text is None
    assert reason in found.reason


def test_an_instruction_that_the_file_cannot_hold_is_left_out(gguf, tiny):
    found = make(gguf, load_tokenizer(tiny["qwen3"]), 'Say """ often.')
    assert found.text is None
    assert '"""' in found.reason


def test_only_for_gguf_files(tmp_path, tiny):
    (tmp_path / "x.gguf").write_text("no")
    with pytest.raises(DataError, match="no GGUF file"):
        make(tmp_path / "x.gguf", load_tokenizer(tiny["qwen3"]))
