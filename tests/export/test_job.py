"""The export as a whole: every file, the same bytes again, kills and full disks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.export import models
from tests.export.models import ODD, SHAPES
from tests.project import ROOT
from tracetune.errors import DataError
from tracetune.export.job import export
from tracetune.export.options import ExportOptions
from tracetune.export.runtime import GgufModel
from tracetune.files import read_json, sha256_file, sha256_folder, write_json

FAST = {"nll_tokens": 8}


@pytest.fixture(scope="module")
def done(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("done") / "model"
    export(release, target, name="desk", options=ExportOptions(quant="q4_k_m"))
    return target


def test_everything_is_there_and_nothing_else(done, release):
    assert {path.name for path in done.iterdir()} == {
        *("desk-q4_k_m.gguf", "Modelfile", "README.md", "manifest.json", "adapter")
    }
    assert sha256_folder(done / "adapter") == sha256_folder(release)
    assert [path.name for path in done.parent.iterdir()] == ["model"]


def test_the_manifest_covers_every_file(done):
    manifest = read_json(done / "manifest.json")
    on_disk = {p.relative_to(done).as_posix() for p in done.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == on_disk - {"manifest.json"}
    for name, facts in manifest["files"].items():
        assert facts == {
            "sha256": sha256_file(done / name),
            "bytes": (done / name).stat().st_size,
        }
    assert manifest["gguf"]["types"].keys() == {"F32", "Q4_K", "Q6_K"}
    assert manifest["gguf"]["fell_back"] == {}
    assert manifest["parity"]["f32"]["max_delta"] <= manifest["parity"]["f32"]["limit"]
    assert manifest["parity"]["nll"].keys() == {"tokens", "hugging_face", "f16", "q4_k_m"}
    assert manifest["merge"]["max_delta"] < manifest["merge"]["limit"]
    assert manifest["vllm"]["serves"]
    assert manifest["versions"]["xllamacpp"]
    assert str(Path.home()) not in json.dumps(manifest)
    assert str(done.parent.parent) not in json.dumps(manifest)


def test_the_model_answers_with_its_own_template(done):
    with GgufModel(done / "desk-q4_k_m.gguf", context=256) as model:
        answer = model.answer([{"role": "user", "content": "Hi"}], max_tokens=4)
    assert answer.tokens >= 1


def test_the_card_says_what_it_is(done):
    card = (done / "README.md").read_text()
    manifest = read_json(done / "manifest.json")
    for expected in (
        "license: unknown",
        "desk-q4_k_m.gguf",
        "> Answer in JSON.",
        "| train.jsonl | 24 |",
        "Promote: better.",
        "passed: 10 points better",
        "ollama create desk -f Modelfile",
        "llama-server -m desk-q4_k_m.gguf --jinja",
        "vllm serve BASE_FOLDER --enable-lora --lora-modules desk=./adapter",
        manifest["files"]["desk-q4_k_m.gguf"]["sha256"],
        manifest["base"]["weights_sha256"],
        f"{manifest['parity']['nll']['q4_k_m']:.5f}",
    ):
        assert expected in card, expected


def test_the_same_release_gives_the_same_bytes(done, release, tmp_path):
    export(release, tmp_path / "again", name="desk", options=ExportOptions(quant="q4_k_m"))
    assert sha256_folder(tmp_path / "again") == sha256_folder(done)


@pytest.mark.parametrize("quant", ["q8_0", "f16"])
def test_other_formats(release, tmp_path, quant):
    options = ExportOptions(quant=quant, context=256, **FAST)
    manifest = export(release, tmp_path / "model", name="desk", options=options)
    assert [path.name for path in (tmp_path / "model").glob("*.gguf")] == [f"desk-{quant}.gguf"]
    assert manifest["context"] == 256
    assert "num_ctx 256" in (tmp_path / "model" / "Modelfile").read_text()


def test_fallbacks_licence_and_a_missing_modelfile_are_told(tmp_path):
    from dataclasses import replace

    shape = replace(SHAPES["smollm"], template=ODD, width=288, layers=1)
    folder = models.make(shape, tmp_path / "base")
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# A model\n")
    released = models.release(folder, tmp_path / "release", instruction=None)
    manifest = export(released, tmp_path / "model", name="odd", options=ExportOptions(**FAST))
    assert manifest["gguf"]["fell_back"]["blk.0.attn_q.weight"] == ["Q4_K", "Q5_0"]
    assert manifest["modelfile"]["written"] is False
    assert not (tmp_path / "model" / "Modelfile").exists()
    card = (tmp_path / "model" / "README.md").read_text()
    assert "there is no Modelfile, because the chat template is none" in card
    assert "license: mit" in card
    assert re.search(r"\d+ tensors have rows that do not fit .*Q4_K as Q5_0", card)


PROGRAM = """
import resource, sys
from pathlib import Path
from tracetune.export.job import export
from tracetune.export.options import ExportOptions
if int(sys.argv[3]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
export(Path(sys.argv[1]), Path(sys.argv[2]), name="desk", options=ExportOptions(nll_tokens=8))
"""


def command(release: Path, target: Path, limit: int = 0) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(release), str(target), str(limit)]


@pytest.mark.faults
@pytest.mark.parametrize("place", ["merged model", "gguf"])
def test_a_full_disk_leaves_nothing(release, tiny, tmp_path, place):
    target = tmp_path / "model"
    weights = (tiny["llama"] / "model.safetensors").stat().st_size
    # The merged weights are as large as the base; a GGUF file has the tokenizer in it as well.
    limit = weights // 2 if place == "merged model" else weights + 4000
    run = subprocess.run(
        command(release, target, limit), cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode != 0
    assert "could not be written" in run.stderr
    assert "free disk space" in run.stderr
    assert ("gguf_writer.py" in run.stderr) == (place == "gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["*-f32.gguf", "adapter"])
def test_a_kill_leaves_nothing_under_the_name(done, release, tmp_path, moment):
    target = tmp_path / "model"
    shutil.copytree(done, target)
    write_json(target / "manifest.json", {"an earlier": "export"})
    before = sha256_folder(target)
    process = subprocess.Popen(
        command(release, target), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(f".model.*/**/{moment}")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert sha256_folder(target) == before
    assert list(tmp_path.glob(".model.*.partial"))
    export(release, target, name="desk", options=ExportOptions(nll_tokens=8))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert sha256_file(target / "desk-q4_k_m.gguf") == sha256_file(done / "desk-q4_k_m.gguf")


def test_an_error_keeps_what_was_exported_before(done, release, tmp_path):
    target = Path(shutil.copytree(done, tmp_path / "model"))
    broken = Path(shutil.copytree(release, tmp_path / "broken"))
    (broken / "gate.json").unlink()
    with pytest.raises(DataError, match=r"no gate\.json"):
        export(broken, target, name="desk", options=ExportOptions())
    assert sha256_folder(target) == sha256_folder(done)


@pytest.mark.parametrize(
    "wrong", [{"quant": "q3_k"}, {"context": 1}, {"threads": 0}, {"source": "dpo"}, {"extra": 1}]
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ExportOptions(**wrong)
    assert ExportOptions(**{"from": "dpo"}).source == "dpo"
