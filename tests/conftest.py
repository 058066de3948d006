"""Fixtures that several packages of tests use, and the order of the files."""

import pytest
from hypothesis import settings

from tests.phoenix_server import phoenix_server
from tests.project import finished, project

__all__ = ["finished", "phoenix_server", "project"]

# How long an example takes depends on what else the machine does; nothing here is a timed test.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

LONGEST_FIRST = (
    "tests/test_docs.py",
    # Beside it something that waits neither for the finished run nor for Phoenix.
    "tests/test_embedding_pipeline.py",
    "tests/test_methods_pipelines.py",
    "tests/test_eisv_pipeline.py",
    "tests/test_dpo_pipeline.py",
    "tests/backends/test_together_pipeline.py",
    "tests/test_review_pipeline.py",
    "tests/test_",
    "tests/training/",
    "tests/export/",
    "tests/telemetry/",
)
"""Beginnings of node ids: a long file that is started last leaves the other worker idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts whole pipelines before the packages, the longest first; see ``make test``."""

    def place(item: pytest.Item) -> int:
        found = (i for i, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start))
        return next(found, len(LONGEST_FIRST))

    items.sort(key=place)
