"""State of the test server: files, jobs, what is paid, and what fails next."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import zstandard
from safetensors.numpy import save

from tests.backends import together_rules as rules
from tests.backends.together_hosting import Hosting
from tests.backends.together_rules import Refusal, bad
from tests.strict_server import StrictState

KEY = "tgp_v1_test-0123456789abcdef0123456789abcdef"
WAY = ["pending", "queued", "running", "compressing", "uploading", "completed"]
FAILED = ("error", "user_error", "cancelled")
ENDED = ("completed", *FAILED)


@dataclass
class File:
    """An uploaded file."""

    id: str
    name: str
    checksum: str
    data: bytes | None = None
    status: str = "PENDING"
    polls: int = 0
    method: str | None = None
    problem: str = ""
    rows: int = 0


@dataclass
class Job:
    """A job."""

    id: str
    body: dict[str, Any]
    model: str
    created: datetime
    hidden: int
    status: str = "pending"
    looks: int = 0
    cancel_looks: int = 0
    ending: str = "completed"
    archive: bytes = b""


@dataclass
class Server(StrictState):
    """State and settings of a running server.

    Attributes:
        key: The key it takes.
        file_polls: Looks at a file before it is checked.
        job_looks: Looks at a job for each step of its way.
        lag: Listings that do not show a new job yet.
        endings: Of jobs in their order: ``completed``, ``error``, ``user_error``, ``cancelled`` or
            ``stuck``; ``completed`` beyond the list.
        price: Dollars that every job is estimated at; None: no estimate.
        total_price: Billionths of a dollar that every completed job says it cost.
        unavailable: Reason why there is no estimate.
        refuse_files: Answer INVALID_FORMAT to every file, with this reason.
        failing_files: How many files more end as FAILED, through no fault of their rows.
        shows_suffix: Whether lists show the suffix.
        layers: Layers of the hosted model: name → (out, in).
        way: Statuses of a job on its way.
        pack: Makes the archive of a job.
        project: Project that the key names; None for a key of the organization.
        hosting: Endpoints and what is deployed on them.
    """

    key: str = KEY
    file_polls: int = 2
    job_looks: int = 1
    lag: int = 0
    endings: list[str] = field(default_factory=list)
    price: float | None = 1.25
    total_price: Any = int(1.2e9)
    unavailable: str = ""
    allowed: bool = True
    refuse_files: str = ""
    failing_files: int = 0
    shows_suffix: bool = True
    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    way: list[str] = field(default_factory=lambda: list(WAY))
    pack: Callable[[Server, Job], bytes] | None = None
    project: str | None = None
    hosting: Hosting = field(default_factory=Hosting)
    files: dict[str, File] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)

    def paid(self) -> int:
        """Jobs that are paid: all that were created, but those that came to nothing."""
        return sum(job.status not in FAILED for job in self.jobs.values())

    def whoami(self) -> dict[str, Any]:
        """Whose key it is."""
        owner = {"organization": {"id": "o1", "name": "Acme"}, "api_key": {"id": "k1"}}
        if self.project is None:
            return {"type": "org_api_key", **owner}
        project = {"id": self.project, "name": "Trials", "slug": "trials"}
        return {"type": "project_api_key", "project": project, **owner}

    # Files -------------------------------------------------------------------------------------

    def begin_upload(self, form: dict[str, str]) -> File:
        """A place for a file; 409 if the same is here already."""
        if set(form) != {"purpose", "file_name", "file_type", "checksum"}:
            raise Refusal(422, f"unexpected fields {sorted(form)}")
        if form["purpose"] != "fine-tune" or form["file_type"] != "jsonl":
            raise bad("purpose fine-tune and file_type jsonl are expected")
        with self.lock:
            for known in self.files.values():
                if known.checksum == form["checksum"] and known.data is not None:
                    raise Refusal(409, "the file exists", file_id=known.id)
            file_id = f"file-{len(self.files) + 1:04d}-{form['checksum'][:8]}"
            self.files[file_id] = File(file_id, form["file_name"], form["checksum"])
            return self.files[file_id]

    def put(self, file_id: str, data: bytes) -> None:
        """The bytes of a file."""
        found = self.one_file(file_id)
        if hashlib.sha256(data).hexdigest() != found.checksum:
            raise bad("the checksum does not match")
        found.data = data

    def preprocess(self, file_id: str) -> dict[str, Any]:
        """Starts the check of a file."""
        found = self.one_file(file_id)
        if found.data is None:
            raise bad("the file has no content")
        found.method, found.problem, found.rows = rules.check_file(found.data)
        found.problem = self.refuse_files or found.problem
        found.status = "QUEUED"
        return self.file(file_id, look=False)

    def one_file(self, file_id: str) -> File:
        """A file."""
        if file_id not in self.files:
            raise Refusal(404, f"no file {file_id}")
        return self.files[file_id]

    def file(self, file_id: str, *, look: bool = True) -> dict[str, Any]:
        """A file as it is now; every look brings its check on."""
        found = self.one_file(file_id)
        if look and found.status in ("QUEUED", "RUNNING"):
            found.polls += 1
            found.status = "RUNNING"
            if found.polls >= self.file_polls:
                found.status = "INVALID_FORMAT" if found.problem else "COMPLETED"
                if self.failing_files:
                    self.failing_files -= 1
                    found.status, found.problem = "FAILED", "the worker was lost"
        report = {"valid": not found.problem, "nlines": found.rows, "dataset_format": "text"}
        if found.problem:
            report = {"valid": False, "error": found.problem, "error_type": "format"}
        done = found.status in ("COMPLETED", "INVALID_FORMAT", "FAILED")
        return {
            "id": found.id,
            "object": "file",
            "bytes": len(found.data or b""),
            "created_at": 1_780_000_000,
            "filename": found.name,
            "FileType": "jsonl",
            "purpose": "fine-tune",
            "processing_status": found.status,
            **({"validation_report": report} if done else {}),
        }

    def delete_file(self, file_id: str) -> dict[str, Any]:
        """Removes a file."""
        self.one_file(file_id)
        del self.files[file_id]
        return {"id": file_id, "deleted": True}

    # Jobs --------------------------------------------------------------------------------------

    def estimate(self, body: Any) -> dict[str, Any]:
        """The price of a job."""
        rules.check_common(body, rules.ESTIMATE, self.jobs, self.files)
        reason = self.unavailable
        for kind, name in (("training_file", "train"), ("validation_file", "eval")):
            if body.get(kind) and self.files[body[kind]].status != "COMPLETED":
                reason = f"{name}_file_not_validated"
        if reason:
            return {"estimation_available": False, "unavailable_reason": reason}
        return {
            "estimation_available": True,
            "estimated_total_price": self.price,
            "allowed_to_proceed": self.allowed,
            "user_limit": 100.0,
            "estimated_train_token_count": 12345,
            "estimated_eval_token_count": 0,
        }

    def create(self, body: Any) -> dict[str, Any]:
        """A new job: from here on it is paid."""
        with self.lock:
            model = rules.check_create(body, self.jobs, self.files)
            number = len(self.jobs) + 1
            ending = self.endings[number - 1] if number <= len(self.endings) else "completed"
            moment = datetime(2026, 11, 20, tzinfo=UTC) + timedelta(minutes=number)
            job = Job(f"ft-{number:04d}-abcd", body, model, moment, self.lag, ending=ending)
            self.jobs[job.id] = job
            return {**self._row(job), "adapter_output_name": None}

    def one_job(self, job_id: str) -> Job:
        """A job."""
        if job_id not in self.jobs:
            raise Refusal(404, f"no job {job_id}")
        return self.jobs[job_id]

    def listing(self) -> dict[str, Any]:
        """All jobs that the list shows already."""
        with self.lock:
            shown = [job for job in self.jobs.values() if not job.hidden]
            for job in self.jobs.values():
                job.hidden = max(0, job.hidden - 1)
            return {"data": [self._row(job) for job in shown]}

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it is now; every look brings it on."""
        found = self.one_job(job_id)
        if found.status == "cancel_requested":
            found.cancel_looks += 1
            if found.cancel_looks > 1:
                found.status = "cancelled"
        elif found.status not in ENDED:
            found.looks += 1
            step = min(found.looks // self.job_looks, len(self.way) - 1)
            stops = {"error": 3, "user_error": 2, "cancelled": 2}
            if step >= stops.get(found.ending, 99):
                found.status = found.ending
            elif found.ending == "stuck":
                found.status = "queued"
            else:
                found.status = self.way[step]
        row = {**self._row(found), "queue_depth": 3 if found.status == "queued" else 0}
        del row["suffix"]  # not in the published schema of this call
        if found.status == "completed":
            row |= {"total_price": self.total_price, "token_count": 12000}
            row |= {"model_object_id": f"ml_{job_id}", "adapter_object_id": f"ml_{job_id}-a"}
        return row

    def _row(self, job: Job) -> dict[str, Any]:
        given = job.body
        name = f"acct/{job.model.split('/')[-1]}-{given.get('suffix', '')}-{job.id[3:]}"
        row = {
            "id": job.id,
            "object": "fine-tune",
            "user_id": "u1",
            "status": job.status,
            "created_at": job.created.isoformat(),
            "updated_at": job.created.isoformat(),
            "model": job.model,
            "model_output_name": name,
            "training_file": given["training_file"],
            "training_method": given["training_method"],
            "training_type": given["training_type"],
            "suffix": given.get("suffix", ""),
        }
        if not self.shows_suffix:
            row["suffix"] = None
        return row

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Asks a job to end."""
        found = self.one_job(job_id)
        if found.status in ENDED:
            raise bad(f"the job is {found.status}")
        found.status = "cancel_requested"
        return self._row(found)

    def events(self, job_id: str) -> dict[str, Any]:
        """Events of a job."""
        found = self.one_job(job_id)
        told = [("job_pending", "Job started"), ("training_start", "Training started")]
        if found.status in ("error", "user_error"):
            told.append((f"job_{found.status}", f"the trainer stopped; key {self.key} was used"))
        return {
            "data": [
                {
                    "object": "fine-tune-event",
                    "created_at": found.created.isoformat(),
                    "type": kind,
                    "message": message,
                    "level": "info",
                }
                for kind, message in told
            ]
        }

    def metrics(self, job_id: str) -> dict[str, Any]:
        """Losses of a job."""
        self.one_job(job_id)
        return {
            "metrics": [
                {"train/global_step": 1, "train/loss": 2.5, "train/learning_rate": 1e-4},
                {"train/global_step": 2, "train/loss": 2.0, "train/learning_rate": 5e-5},
                {"train/global_step": 2, "eval/loss": 2.1},
            ]
        }

    def checkpoints(self, job_id: str) -> dict[str, Any]:
        """Checkpoints of a job."""
        found = self.one_job(job_id)
        if found.status != "completed":
            return {"data": []}
        return {
            "data": [
                {
                    "step": 2,
                    "checkpoint": "adapter",
                    "checkpoint_type": "Final (adapter)",
                    "created_at": found.created.isoformat(),
                    "path": "storage/adapter",
                }
            ]
        }

    def download(self, query: dict[str, list[str]]) -> bytes:
        """The archive of a finished job."""
        if set(query) != {"ft_id", "checkpoint"} or query["checkpoint"] != ["adapter"]:
            raise Refusal(422, f"unexpected parameters {sorted(query)}")
        found = self.one_job(query["ft_id"][0])
        if found.status != "completed":
            raise bad("the job has not finished")
        if not found.archive:
            found.archive = (self.pack or pack)(self, found)
        return found.archive


def adapter_files(server: Server, job: Job) -> dict[str, bytes]:
    """A real LoRA adapter for the layers of the hosted model."""
    given, rng = job.body["training_type"], np.random.default_rng(len(job.id))
    wanted = given["lora_trainable_modules"]
    modules = sorted(rules.MODULES if wanted == "all-linear" else wanted.split(","))
    tensors = {}
    for name, (out, width) in server.layers.items():
        if name.split(".")[-1] in modules:
            stem, rank = f"base_model.model.{name}", given["lora_r"]
            a, b = rng.normal(size=(rank, width)), rng.normal(size=(out, rank))
            tensors[f"{stem}.lora_A.weight"] = (a * 0.01).astype(np.float32)
            tensors[f"{stem}.lora_B.weight"] = (b * 0.01).astype(np.float32)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": job.model,
        "r": given["lora_r"],
        "lora_alpha": given["lora_alpha"],
        "lora_dropout": given.get("lora_dropout", 0.0),
        "target_modules": modules,
        "bias": "none",
    }
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": save(tensors),
        "README.md": b"An adapter.",
    }


def tar(files: dict[str, bytes], *, links: dict[str, str] | None = None) -> bytes:
    """A tar of plain files, and of links for tests of what is refused."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def pack(server: Server, job: Job) -> bytes:
    """The archive as the service packs it."""
    content = tar({f"model/{name}": data for name, data in adapter_files(server, job).items()})
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)
