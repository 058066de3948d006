"""A running server, and short waits."""

from collections.abc import Iterator

import pytest

from tests.llm.anthropic_server import Server, running_server
from tracetune import hosted_calls


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(hosted_calls, "_FIRST_WAIT", 0.02)
    with running_server() as state:
        yield state
