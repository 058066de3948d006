"""Whether vLLM can serve an adapter folder as it is (``--enable-lora --lora-modules name=path``).

Checked on the files, without vLLM: method, names and shapes of the weights, one rank, nothing but
LoRA matrices, and a base that can be named (reference ``export.md``, section 6).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tracetune.files import read_json

MAX_RANK = 16
"""vLLM's default of ``--max-lora-rank``."""

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


def check(adapter: Path, base: Path) -> dict[str, Any]:
    """Looks at an adapter folder with the eyes of vLLM.

    Args:
        adapter: Folder with ``adapter_config.json`` and ``adapter_model.safetensors``.
        base: Folder of the base model.

    Returns:
        ``serves`` (no problem was found), ``problems`` in words, and ``flags``: what the server
        must be started with beyond ``--enable-lora``.
    """
    config = read_json(adapter / "adapter_config.json")
    problems = _config_problems(config)
    shapes = _shapes(adapter)
    of_base = _shapes(base)
    ranks = set()
    for key, shape in sorted(shapes.items()):
        found = _KEY.fullmatch(key)
        if found is None:
            problems.append(f"{key} is no LoRA matrix of a linear module")
            continue
        weight = of_base.get(f"{found['module']}.weight")
        if weight is None:
            problems.append(f"the base has no module {found['module']}")
            continue
        rank, width = (shape[0], shape[1]) if found["side"] == "A" else (shape[1], shape[0])
        ranks.add(rank)
        expected = weight[1] if found["side"] == "A" else weight[0]
        if width != expected:
            problems.append(f"{key} has width {width}, the base {expected}")
    if len(ranks) > 1:
        problems.append(f"more than one rank: {sorted(ranks)}")
    if not shapes:
        problems.append("there are no weights")
    most = max(ranks, default=0)
    flags = [f"--max-lora-rank {most}"] if most > MAX_RANK else []
    return {"serves": not problems, "problems": problems, "flags": flags}


def _config_problems(config: dict[str, Any]) -> list[str]:
    wanted = {
        "peft_type": ("LORA", "vLLM serves LoRA only"),
        "bias": ("none", "vLLM has no biases in adapters"),
        "use_dora": (False, "vLLM does not serve DoRA"),
        "modules_to_save": (None, "vLLM takes no whole modules from an adapter"),
    }
    problems = [
        f"{name} is {config.get(name)!r}: {why}"
        for name, (value, why) in wanted.items()
        if (config.get(name) or value) != value
    ]
    for name in ("rank_pattern", "alpha_pattern"):
        if config.get(name):
            problems.append(f"{name} gives modules settings of their own")
    if not config.get("base_model_name_or_path"):
        problems.append("the configuration names no base model")
    return problems


def _shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes of all weights in the safetensors files of a folder; nothing is loaded."""
    from safetensors import safe_open

    found: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as weights:
            names: list[str] = list(weights.keys())
            found.update({name: list(weights.get_slice(name).get_shape()) for name in names})
    return found
