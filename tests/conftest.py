"""Fixtures that several packages of tests use."""

from hypothesis import settings

from tests.phoenix_server import phoenix_server
from tests.project import finished, project

__all__ = ["finished", "phoenix_server", "project"]

# How long an example takes depends on what else the machine does; nothing here is a timed test.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
