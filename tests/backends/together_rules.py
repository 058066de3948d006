"""What Together AI takes and refuses, as far as it is documented: the strict half of the server."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.strict_server import Refused

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MODELS: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-0.6B": {"max_batch_size": 32, "max_batch_size_dpo": 16},
    "meta-llama/Llama-3.2-1B-Instruct": {"max_batch_size": 8, "max_batch_size_dpo": 8},
    # Trained, but not by DPO; and one that is not in the project's table.
    "acme/no-dpo-1B": {"max_batch_size": 32, "max_batch_size_dpo": 0, "dpo": 0},
}
CREATE = {
    "training_file",
    "validation_file",
    "packing",
    "model",
    "n_epochs",
    "learning_rate",
    "lr_scheduler",
    "warmup_ratio",
    "max_grad_norm",
    "weight_decay",
    "n_checkpoints",
    "n_evals",
    "max_seq_length",
    "batch_size",
    "gradient_accumulation_steps",
    "suffix",
    "random_seed",
    "early_stopping_enabled",
    "early_stopping_patience",
    "early_stopping_min_delta",
    "early_stopping_warmup_evals",
    "training_type",
    "training_method",
    "from_checkpoint",
}
ESTIMATE = {
    "training_file",
    "validation_file",
    "model",
    "from_checkpoint",
    "n_epochs",
    "n_evals",
    "training_method",
    "training_type",
}
LORA = {"type", "lora_r", "lora_alpha", "lora_dropout", "lora_trainable_modules"}
SFT = {"method", "train_on_inputs"}
DPO = {
    "method",
    "dpo_beta",
    "dpo_normalize_logratios_by_length",
    "dpo_reference_free",
    "rpo_alpha",
    "simpo_gamma",
}
FORMATS = {
    "sft": [{"messages"}, {"messages", "tools"}, {"prompt", "completion"}, {"text"}],
    "dpo": [{"input", "preferred_output", "non_preferred_output"}],
}


class Refusal(Refused):
    """An error reply: status and message."""

    def __init__(self, status: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.extra = status, message, extra

    def body(self) -> dict[str, Any]:
        """As the service sends it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind}, **self.extra}


def bad(message: str) -> Refusal:
    """A 400."""
    return Refusal(400, message)


def limits(model: str) -> dict[str, Any]:
    """Limits of a model."""
    if model not in MODELS:
        raise Refusal(404, f"model {model} is not available for fine-tuning")
    own = MODELS[model]
    batches = {"max_batch_size": own["max_batch_size"], "min_batch_size": 8}
    batches["max_batch_size_dpo"] = own["max_batch_size_dpo"]
    return {
        "model_name": model,
        "default_gradient_accumulation_steps": 1,
        "lora_training": {
            **batches,
            "default_rank": 8,
            "max_rank": 64,
            "target_modules": MODULES,
        },
        "full_training": batches,
        "max_learning_rate": 0.01,
        "min_learning_rate": 1e-7,
        "max_num_checkpoints": 50,
        "max_num_epochs": 20,
        "max_num_evals": 100,
        "max_seq_length_sft": 4096,
        "max_seq_length_dpo": own.get("dpo", 2048),
        "min_max_seq_length": 128,
        "merge_output_lora": True,
        "supports_full_training": True,
        "supports_reasoning": False,
        "supports_tools": True,
        "supports_vision": False,
    }


def check_start(body: dict[str, Any], jobs: dict[str, Any]) -> str:
    """Exactly one of model and checkpoint; the model it comes to."""
    model, checkpoint = body.get("model") or None, body.get("from_checkpoint")
    if (model is None) == (checkpoint is None):
        raise bad("exactly one of model and from_checkpoint is required")
    if checkpoint is None:
        if model not in MODELS:
            raise Refusal(404, f"model {model} is not available for fine-tuning")
        return str(model)
    parent = jobs.get(str(checkpoint).split(":")[0])
    if parent is None or parent.status != "completed":
        raise bad(f"from_checkpoint: no finished job {checkpoint}")
    return str(parent.model)


def check_common(body: Any, known: set[str], jobs: dict[str, Any], files: dict[str, Any]) -> str:
    """What estimate and create share; returns the model."""
    if not isinstance(body, dict):
        raise bad("an object is expected")
    for name in body:
        if name not in known:
            raise Refusal(422, f"{name}: extra inputs are not permitted")
    model = check_start(body, jobs)
    method = _method(body.get("training_method"), model)
    _lora(body.get("training_type"))
    if type(body.get("n_epochs")) is not int or not 1 <= body["n_epochs"] <= 20:
        raise bad("n_epochs: an integer from 1 to 20 is expected")
    for kind in ("training_file", "validation_file"):
        file_id = body.get(kind) or ""
        if not file_id and kind == "validation_file":
            continue
        if file_id not in files:
            raise Refusal(404, f"{kind}: no file {file_id}")
        if files[file_id].method not in (None, method):
            raise bad(f"{kind}: its format is not that of {method}")
    if body.get("n_evals", 0) and not body.get("validation_file"):
        raise bad("n_evals needs a validation_file")
    if body.get("validation_file") and not body.get("n_evals"):
        raise bad("a validation_file needs n_evals > 0")
    return model


def check_create(body: Any, jobs: dict[str, Any], files: dict[str, Any]) -> str:
    """A request for a job; returns the model."""
    model = check_common(body, CREATE, jobs, files)
    own, method = limits(model), body["training_method"]["method"]
    for kind in ("training_file", "validation_file"):
        if body.get(kind) and files[body[kind]].status != "COMPLETED":
            raise bad(f"{kind}: the file has not been validated")
    suffix = body.get("suffix", "")
    if not re.fullmatch(r"[A-Za-z0-9-]{0,40}", suffix):
        raise bad("suffix: at most 40 letters, digits and hyphens")
    longest = own[f"max_seq_length_{method}"]
    if not own["min_max_seq_length"] <= body.get("max_seq_length", longest) <= longest:
        raise bad("max_seq_length is out of range")
    if not own["min_learning_rate"] <= body["learning_rate"] <= own["max_learning_rate"]:
        raise bad("learning_rate is out of range")
    lora = own["lora_training"]
    most = lora["max_batch_size_dpo" if method == "dpo" else "max_batch_size"]
    size = body.get("batch_size", "max")
    if size != "max" and (type(size) is not int or not lora["min_batch_size"] <= size <= most):
        raise bad("batch_size is out of range")
    scheduler = body.get("lr_scheduler") or {}
    if scheduler.get("lr_scheduler_type") not in ("linear", "cosine"):
        raise bad("lr_scheduler: linear or cosine")
    if not 0 <= body.get("warmup_ratio", 0) <= 1:
        raise bad("warmup_ratio is out of range")
    if body.get("early_stopping_enabled"):
        needed = body["early_stopping_patience"] + body["early_stopping_warmup_evals"] + 1
        if body["n_evals"] < needed:
            raise bad("early stopping needs more evaluations")
    checkpoint = body.get("from_checkpoint")
    if checkpoint and jobs[checkpoint].body["training_type"]["lora_r"] != _rank(body):
        raise bad("lora_r: not that of the checkpoint")
    return model


def _rank(body: dict[str, Any]) -> int:
    return int(body["training_type"]["lora_r"])


def _method(given: Any, model: str) -> str:
    if not isinstance(given, dict) or given.get("method") not in ("sft", "dpo"):
        raise bad("training_method: an object with method sft or dpo is expected")
    unknown = set(given) - (SFT if given["method"] == "sft" else DPO)
    if unknown:
        raise Refusal(422, f"training_method.{sorted(unknown)[0]}: not permitted")
    if given["method"] == "sft" and given.get("train_on_inputs") not in (True, False, "auto"):
        raise bad("training_method.train_on_inputs: true, false or auto")
    if given["method"] == "dpo":
        if not limits(model)["max_seq_length_dpo"]:
            raise bad(f"{model} does not support DPO")
        if not 0.05 <= given.get("dpo_beta", 0.1) <= 0.9:
            raise bad("training_method.dpo_beta is out of range")
    return str(given["method"])


def _lora(given: Any) -> None:
    if not isinstance(given, dict) or given.get("type") != "Lora":
        raise bad("training_type: type Lora is expected by these tests")
    if set(given) - LORA:
        raise Refusal(422, f"training_type.{sorted(set(given) - LORA)[0]}: not permitted")
    if type(given.get("lora_r")) is not int or not 1 <= given["lora_r"] <= 64:
        raise bad("training_type.lora_r is out of range")
    if type(given.get("lora_alpha")) is not int:
        raise bad("training_type.lora_alpha: an integer is expected")
    modules = given.get("lora_trainable_modules", "all-linear")
    if modules != "all-linear" and set(modules.split(",")) - set(MODULES):
        raise bad("training_type.lora_trainable_modules: unknown module")


def check_file(data: bytes) -> tuple[str | None, str, int]:
    """Method that a file is for, what is wrong with it, and its rows."""
    try:
        lines = [json.loads(line) for line in data.decode("utf-8").splitlines() if line.strip()]
    except ValueError as error:
        return None, f"not JSON lines: {error}", 0
    methods = set()
    for number, line in enumerate(lines, start=1):
        keys = set(line) - {"weight"} if isinstance(line, dict) else set()
        found = [name for name, formats in FORMATS.items() if keys in formats]
        if not found:
            return None, f"line {number}: unexpected columns {sorted(keys)}", 0
        methods.add(found[0])
        problem = _row(line, found[0])
        if problem:
            return None, f"line {number}: {problem}", 0
    if len(methods) != 1:
        return None, "no rows, or mixed formats", 0
    return methods.pop(), "", len(lines)


def _row(line: dict[str, Any], method: str) -> str:
    if isinstance(line.get("weight", 1), bool) or line.get("weight", 1) < 0:
        return "weight"
    if method == "dpo":
        if set(line["input"]) - {"messages", "tools"}:
            return "input"
        for name in ("preferred_output", "non_preferred_output"):
            output = line[name]
            if not isinstance(output, list) or [m.get("role") for m in output] != ["assistant"]:
                return f"{name}: exactly one assistant message"
        if line["input"]["messages"][-1]["role"] == "assistant":
            return "input ends with the assistant"
        return _conversation(line["input"]["messages"])
    if "messages" not in line:
        return ""
    if not any(message.get("role") == "assistant" for message in line["messages"]):
        return "no assistant message"
    return _conversation(line["messages"])


def _conversation(messages: list[dict[str, Any]]) -> str:
    if not messages:
        return "empty"
    roles = [message.get("role") for message in messages]
    rest = roles[1:] if roles[0] == "system" else roles
    expected = "user"
    for role, message in zip(rest, messages[len(roles) - len(rest) :], strict=True):
        if set(message) - {"role", "content", "weight", "tool_calls", "tool_call_id"}:
            return "unknown key in a message"
        if message.get("weight", 1) not in (0, 1):
            return "message weight"
        if not isinstance(message.get("content"), str):
            return "content"
        if role != expected and not (role == "tool" and expected == "user"):
            return f"{role} where {expected} is expected"
        expected = "assistant" if role in ("user", "tool") else "user"
    return ""
