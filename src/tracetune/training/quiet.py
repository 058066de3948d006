"""Silence and privacy around the training libraries: no usage reports, no needless network,
no known harmless noise. Noise is filtered by its text, never wholesale."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

HARMLESS = (
    # TRL 1.16 still sets the old name on every configuration it makes.
    r".*`?gradient_checkpointing`? is deprecated.*",
    r".*activation_checkpointing.*",
    r".*pin_memory.*no accelerator is found.*",
    r".*Could not find a config file in .* - will assume that the vocabulary was not modified.*",
)


class _Harmless(logging.Filter):
    """Drops log lines that are known and need no action from a user."""

    texts = (
        "The tokenizer has new PAD/BOS/EOS tokens that differ from the model config",
        "The model is already on multiple devices",
        "Checkpoint included callbacks not included in current configuration",
        "gradient_checkpointing",
    )

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(text in message for text in self.texts)


def private() -> None:
    """Turns off usage reports of the training libraries; also when they are already imported."""
    os.environ.update(_ENVIRONMENT)
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """No request to the model hub inside the block: everything needed is on this machine."""
    private()
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    environment = os.environ.get("HF_HUB_OFFLINE")
    constants.HF_HUB_OFFLINE = True
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        if environment is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = environment


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Filters known harmless warnings and the progress bars of data preparation in the block."""
    private()
    from transformers.utils import logging as transformers_logging

    import datasets

    loggers = [logging.getLogger(name) for name in ("transformers.trainer", "transformers", "trl")]
    harmless = _Harmless()
    for logger in loggers:
        logger.addFilter(harmless)
    bars = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    weights_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            for text in HARMLESS:
                warnings.filterwarnings("ignore", message=text)
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(harmless)
        if not bars:
            datasets.enable_progress_bars()
        if weights_bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
