"""What one job sends to Together AI: rows checked and redacted, the model, and a hash of it all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetune.backends import together_models
from tracetune.backends.together_calls import ADDRESS
from tracetune.backends.together_check import CheckReport, check_lines, demand, token_counter
from tracetune.backends.together_options import TogetherOptions
from tracetune.backends.together_request import check_method, essence
from tracetune.backends.together_rows import Compiled, compile_rows
from tracetune.errors import ConfigurationError, DataError
from tracetune.files import read_json, sha256_json, sha256_text
from tracetune.training.job import TrainingJob


@dataclass(frozen=True)
class Prepared:
    """What is sent.

    Attributes:
        job: The training job.
        stage: ``<pipeline>.<stage>``.
        model: The hosted model.
        checkpoint: Id of the job that training goes on from; empty to start from the model.
        files: The compiled files.
        tokens: Tokens of each file, counted here.
        counted_by: ``tokenizer``, or ``bytes`` if the tokenizer of the model is not here.
        key: Hash of all that decides the result.
    """

    job: TrainingJob
    stage: str
    model: str
    checkpoint: str
    files: list[Compiled]
    tokens: dict[str, int]
    counted_by: str
    key: str

    @property
    def rows(self) -> dict[str, int]:
        """Rows by file."""
        return {compiled.name: len(compiled.lines) for compiled in self.files}

    @property
    def dropped(self) -> dict[str, int]:
        """Rows left out, by reason."""
        return _sum([compiled.dropped for compiled in self.files])

    @property
    def redacted(self) -> dict[str, int]:
        """What was replaced, by kind."""
        return _sum([compiled.redacted for compiled in self.files])

    def start(self) -> dict[str, str]:
        """The model, or the checkpoint: the service takes one of them, never both."""
        return {"from_checkpoint": self.checkpoint} if self.checkpoint else {"model": self.model}


def prepare(job: TrainingJob, options: TogetherOptions, stage: str) -> Prepared:
    """Compiles and checks the rows of a job; asks nothing of the service.

    Raises:
        ConfigurationError: The method, the model or a setting cannot be used.
        DataError: A row is wrong; the message has all of them.
    """
    check_method(job)
    model = together_models.choose(job, options.model)
    checkpoint = _checkpoint(job, model)
    if job.over_length == "truncate":
        raise ConfigurationError(
            "rows cannot be cut for Together AI: where the service cuts is not documented",
            where=f"{job.method}.over_length",
            remedy="choose raise or drop",
        )
    files = compile_rows(job, redact=options.redact)
    count, counted_by = token_counter(job.base)
    reports: dict[str, CheckReport] = {}
    for compiled in files:
        given: dict[str, Any] = {"longest": int(job.trainer["max_length"]), "count": count}
        report = check_lines(compiled.lines, job.method, numbers=compiled.sources, **given)
        # A guess never decides which rows are trained on: with a tokenizer it would be other rows,
        # another request, and so a second job.
        sure = counted_by == "tokenizer"
        if job.over_length == "drop" and sure and _leave_out(compiled, report):
            report = check_lines(compiled.lines, job.method, numbers=compiled.sources, **given)
        reports[compiled.name] = report
    demand(reports, job.dataset.path, counted_by)
    return Prepared(
        job=job,
        stage=stage,
        model=model,
        checkpoint=checkpoint,
        files=files,
        tokens={name: report.tokens for name, report in reports.items()},
        counted_by=counted_by,
        key=_key(job, options, model, checkpoint, files),
    )


def key_from(prepared: Prepared, options: TogetherOptions, checkpoint: str) -> str:
    """The hash that a job would have if it went on from another one.

    Args:
        prepared: The job, as it is known before that one is there.
        options: Parameters.
        checkpoint: Id of the other job.
    """
    return _key(prepared.job, options, prepared.model, checkpoint, prepared.files)


def _leave_out(compiled: Compiled, report: CheckReport) -> bool:
    """Removes rows that are too long; whether there were any."""
    long = {problem.line for problem in report.problems if problem.long}
    kept = [index for index, line in enumerate(compiled.sources) if line not in long]
    compiled.dropped["too_long"] += len(compiled.sources) - len(kept)
    compiled.lines = [compiled.lines[index] for index in kept]
    compiled.sources = [compiled.sources[index] for index in kept]
    return bool(long)


def _checkpoint(job: TrainingJob, model: str) -> str:
    """The job that trained the adapter which this one goes on from."""
    if job.start_from is None:
        return ""
    manifest = Path(job.start_from.path) / "manifest.json"
    made = read_json(manifest).get("remote") if manifest.is_file() else None
    if not isinstance(made, dict) or made.get("backend") != "together":
        raise DataError(
            "the adapter to go on from was not trained at Together AI, which can go on only from "
            "a job of its own",
            where=job.start_from.path,
            remedy="run the SFT stage with backend=together too, or set dpo.start_from: base",
        )
    if made["model"] != model:
        raise DataError(
            f"the adapter to go on from was trained on {made['model']!r}, not on {model!r}",
            where=job.start_from.path,
            remedy="use one together.model for both stages",
        )
    return str(made["id"])


def _key(
    job: TrainingJob,
    options: TogetherOptions,
    model: str,
    checkpoint: str,
    files: list[Compiled],
) -> str:
    """Hash of what is asked for.

    The same request has the same hash: nothing of how it is written down, no versions of local
    libraries and no limits that the service may change tomorrow are part of it. They must not make
    a second job of one that is paid.
    """
    return sha256_json(
        {
            "backend": "together",
            "address": options.base_url or ADDRESS,
            "model": model,
            "checkpoint": checkpoint,
            "arguments": essence(job, options, {file.name: len(file.lines) for file in files}),
            "files": {compiled.name: sha256_text(compiled.text()) for compiled in files},
        }
    )


def _sum(counters: list[Any]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counter in counters:
        for name, number in counter.items():
            total[name] = total.get(name, 0) + number
    return dict(sorted((name, number) for name, number in total.items() if number))
