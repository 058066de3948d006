"""The local backend and the estimate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.helpers import dpo_job, examples, pairs, sft_job
from tracetune import backends
from tracetune.backends import JobHandle, RemoteJobs, TogetherOptions
from tracetune.errors import ConfigurationError, DataError
from tracetune.files import sha256_folder
from tracetune.training import preflight
from tracetune.training.base import BaseModelRef
from tracetune.training.estimate import estimate
from tracetune.training.options import DpoOptions, SftOptions

pytestmark = pytest.mark.training


def test_the_local_backend_runs_a_job_to_its_end(
    base: BaseModelRef, sft_folder: Path, tmp_path: Path
) -> None:
    backend = backends.get("local", TogetherOptions(), RemoteJobs(tmp_path / "jobs", None))
    job = sft_job(base, tmp_path / "rows")
    handle = backend.launch(job, tmp_path / "adapter", tmp_path / "work")
    again = JobHandle.model_validate_json(handle.model_dump_json())
    assert backend.poll(again).state == "completed"
    skip = frozenset({"timing.json"})
    assert sha256_folder(backend.fetch(again), skip=skip) == sha256_folder(sft_folder, skip=skip)
    other = again.model_copy(update={"job_hash": "x"})
    with pytest.raises(DataError, match="no model of this job"):
        backend.fetch(other)


def test_an_unknown_backend_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'local'"):
        backends.get("locl", TogetherOptions(), RemoteJobs(tmp_path, None))


def test_the_estimate_counts_tokens_and_operations(base: BaseModelRef, tmp_path: Path) -> None:
    stage = SftOptions()
    report = preflight.inspect(examples(24), [], base, "sft", stage)
    job = sft_job(base, tmp_path / "rows", rows=24)
    found = estimate(job, report)
    assert found.tokens == 2 * report.total_tokens
    assert found.steps == 12
    assert found.flops == 4 * base.parameters * found.tokens
    assert found.seconds > 0
    pair_report = preflight.inspect(pairs(16), pairs(4, 100), base, "dpo", DpoOptions())
    pair_job = dpo_job(base, tmp_path / "pairs", None, rows=16, validation=4, max_steps=4)
    found = estimate(pair_job, pair_report)
    assert (found.steps, found.tokens) == (4, pair_report.total_tokens)
    held_out = pair_report.total_tokens / 4 * 4  # a quarter of the rows, four evaluations
    assert found.flops == base.parameters * (6 * found.tokens + 4 * held_out)
