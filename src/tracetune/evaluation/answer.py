"""One answer of a released adapter, as serving would give it: for ``kedro predict``."""

from __future__ import annotations

from pathlib import Path

from tracetune.errors import DataError
from tracetune.evaluation.generate import BASE, load_generator
from tracetune.files import read_json
from tracetune.records import Message
from tracetune.training.base import BaseModelRef, verify


def answer_once(folder: Path, text: str, *, use_adapter: bool = True) -> str:
    """The answer to one request, through the chat template and instruction of the training.

    Args:
        folder: A released model folder (adapter and ``serving.json``).
        text: What the user asks.
        use_adapter: False for the base model alone.

    Raises:
        DataError: If the folder is incomplete, or the base model is not the one that the adapter
            was made for.
    """
    serving = folder / "serving.json"
    if not serving.is_file():
        raise DataError(
            "the released folder has no serving.json",
            where=str(folder),
            remedy="run the pipeline again",
        )
    settings = read_json(serving)
    if "instruction" not in settings:
        raise DataError(
            f"this model answers nothing ({settings.get('model_type', 'of an unknown kind')})",
            where=str(folder),
            remedy="name a pipeline that trains a language model: --pipeline=dpo, sft, twin …",
        )
    base = BaseModelRef.model_validate(settings["base"])
    verify(base)
    generator = load_generator(base.path, {"released": folder})
    instruction = settings["instruction"]
    prompt = [Message(role="system", content=instruction)] if instruction else []
    prompt.append(Message(role="user", content=text))
    [answer] = generator.answers(
        "released" if use_adapter else BASE,
        [prompt],
        max_new_tokens=settings["max_new_tokens"],
        batch_size=1,
    )
    return answer.text
