"""Trajectory-aware heads on a frozen base (document 001): model, training, use.

Nothing here imports torch until something is computed.
"""

from tracetune.training.heads.api import (
    Encoded,
    TurnStates,
    Twin,
    create_cognitive_twin,
    load_twin,
)
from tracetune.training.heads.config import HeadsConfig, read_config
from tracetune.training.heads.options import HeadsOptions

__all__ = [
    "Encoded",
    "HeadsConfig",
    "HeadsOptions",
    "TurnStates",
    "Twin",
    "create_cognitive_twin",
    "load_twin",
    "read_config",
]
