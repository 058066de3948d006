"""Fixtures that several packages of tests use."""

from tests.phoenix_server import phoenix_server
from tests.project import finished, project

__all__ = ["finished", "phoenix_server", "project"]
