"""A GGUF file that answers: words, grammars, figures, errors, silence."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy
import pytest

from tests.project import ROOT
from tracetune.errors import ConfigurationError, DataError
from tracetune.export.runtime import GgufModel

ASKED = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "Where is it?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "agent": {"enum": ["billing_agent", "travel_agent"]},
        "urgent": {"type": "boolean"},
        "days": {"type": "integer", "minimum": 1, "maximum": 30},
    },
    "required": ["agent", "urgent", "days"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model(written) -> Iterator[GgufModel]:
    with GgufModel(written["qwen3"]["q8_0"].path, threads=2, context=512) as loaded:
        yield loaded


def test_an_answer_is_that_of_the_model(model, known):
    prompt = model.tokenize(model.render(ASKED))
    ids = model.greedy(prompt, 12)
    answer = model.answer(ASKED, max_tokens=12)
    assert answer.tokens == len(ids)
    assert answer.text == known["qwen3"].tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert answer.latency_ms > 0
    assert model.answer(ASKED, max_tokens=12).text == answer.text


def test_confidence_is_the_mean_probability_of_the_tokens(model):
    # All of ASCII, so that no token ends within a character.
    answer = model.answer(ASKED, max_tokens=3, grammar='root ::= "abc"')
    prompt, logs = model.tokenize(model.render(ASKED)), []
    for token in model.tokenize("abc"):
        logs.append(model.log_probability(prompt, token))
        prompt.append(token)
    assert answer.text == "abc"
    expected = sum(map(math.exp, logs)) / len(logs)
    # The end token may be counted too; it is one more probability.
    logs.append(model.log_probability(prompt, model.tokenize("<|im_end|>")[0]))
    with_end = sum(map(math.exp, logs)) / len(logs)
    assert any(math.isclose(answer.confidence, e, rel_tol=1e-3) for e in (expected, with_end))


def test_probabilities_of_all_tokens_add_up(model, tiny):
    logs = model.next_log_probabilities(model.tokenize("Where is"))
    size = json.loads((tiny["qwen3"] / "config.json").read_text())["vocab_size"]
    assert logs.shape == (size,)
    assert numpy.exp(logs).sum() == pytest.approx(1, abs=1e-5)
    for token in (5, 100, 200):
        one = model.log_probability(model.tokenize("Where is"), token)
        assert one == pytest.approx(logs[token], abs=1e-5)


def test_a_cut_answer_says_so(model):
    answer = model.answer(ASKED, max_tokens=2, grammar='root ::= "abcdefghijklmnop"')
    assert answer.finish == "length"
    assert answer.tokens == 2
    done = model.answer(ASKED, max_tokens=40, grammar='root ::= "abcdefghijklmnop"')
    assert (done.finish, done.text) == ("stop", "abcdefghijklmnop")


@pytest.mark.parametrize("text", ["hello", "two  words", "{", "ünïcode 😀", "a\nb"])
def test_a_schema_is_always_kept(model, text):
    import jsonschema

    answer = model.answer([{"role": "user", "content": text}], max_tokens=64, grammar=SCHEMA)
    assert answer.finish == "stop"
    jsonschema.validate(json.loads(answer.text), SCHEMA)
    assert answer.text == json.dumps(json.loads(answer.text), separators=(",", ":"))


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("root ::= (((", "expecting"),
        ('start ::= "a"', "failed to parse grammar"),
        ("", "no GBNF text"),
        ('%llguidance {}\nstart: "a"', "no GBNF text"),
        ({"type": "nonsense"}, "'nonsense' is not valid"),
        # Those llama.cpp drops without a word and answers as if there were none:
        ({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}, "does not know something"),
        ({"not": {"type": "string"}}, "does not know something"),
        ({"type": "string", "format": "shoe-size"}, "does not know something"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_an_error(model, grammar, message):
    with pytest.raises(ConfigurationError, match=message):
        model.answer(ASKED, max_tokens=8, grammar=grammar)
    assert model.answer(ASKED, max_tokens=1).tokens == 1


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user", "content": "word " * 2000}], "does not fit the context"),
        ([], "no conversation"),
        ([{"role": "user"}], "cannot read the request"),
    ],
)
def test_a_conversation_that_cannot_be_answered_is_an_error(model, messages, message):
    with pytest.raises(DataError, match=message):
        model.answer(messages, max_tokens=8)


def test_files_that_cannot_be_loaded_are_named(written, tmp_path):
    whole = written["qwen3"]["q8_0"].path.read_bytes()
    cases = {
        "missing": (None, "there is no such file"),
        "text": (b"hello", "this is no GGUF file"),
        "empty": (b"", "this is no GGUF file"),
        "cut": (whole[: len(whole) // 2], "cannot load the file"),
        "junk": (b"GGUF" + b"x" * 5000, "cannot load the file"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / f"{name}.gguf"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=message), GgufModel(path):
            pass


def test_nobody_else_can_use_its_port(model):
    address = model._server.listening_address
    assert address.startswith("http://127.0.0.1:")
    request = urllib.request.Request(
        f"{address}/completion",
        json.dumps({"prompt": "a"}).encode(),
        {"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request, timeout=10)


def test_a_proxy_of_the_environment_is_not_asked(model, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert model.tokenize("a")


def test_it_is_closed_after_the_block(written):
    with GgufModel(written["qwen3"]["q8_0"].path, context=128) as model:
        pass
    with pytest.raises(RuntimeError, match="not loaded"):
        model.answer(ASKED, max_tokens=1)
    with pytest.raises(RuntimeError, match="not loaded"):
        model.tokenize("a")


def test_opening_and_closing_many_times_never_hangs(written):
    for _ in range(25):
        with GgufModel(written["qwen3"]["q8_0"].path, context=128):
            pass


def test_the_runtime_writes_nothing_to_the_console(written, tmp_path):
    code = (
        "from pathlib import Path; from tracetune.export.runtime import GgufModel\n"
        f"with GgufModel(Path({str(written['llama']['q4_k_m'].path)!r}), context=256) as model:\n"
        "    asked = [{'role': 'user', 'content': 'Hi'}]\n"
        "    model.answer(asked, max_tokens=4)\n"
        "    for grammar in ('root ::= (((', {'not': {}}):\n"
        "        try: model.answer(asked, max_tokens=4, grammar=grammar)\n"
        "        except Exception: pass\n"
        f"try: GgufModel(Path({str(tmp_path / 'junk.gguf')!r})).__enter__()\n"
        "except Exception: pass\n"
    )
    (tmp_path / "junk.gguf").write_bytes(b"GGUF" + b"x" * 500)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("package", ["gguf", "xllamacpp"])
def test_without_the_extra_the_error_says_what_to_install(package):
    code = (
        "import importlib.util as util, sys; find = util.find_spec\n"
        f"util.find_spec = lambda name, *a: None if name == {package!r} else find(name, *a)\n"
        "from pathlib import Path; from tracetune.export.job import export\n"
        "from tracetune.export.options import ExportOptions\n"
        "export(Path('no'), Path('no'), name='x', options=ExportOptions())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert f"not installed ({package})" in done.stderr
    assert "pip install 'tracetune[gguf]'" in done.stderr
