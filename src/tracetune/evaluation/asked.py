"""Who answers: models on this machine, or models that a service hosts."""

from __future__ import annotations

from tracetune.evaluation.generate import Generator
from tracetune.evaluation.hosted import HostedGenerator

Asked = Generator | HostedGenerator
