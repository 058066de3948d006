"""Fixtures that several packages of tests use."""

from tests.phoenix_server import phoenix_server

__all__ = ["phoenix_server"]
