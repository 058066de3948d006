"""Telemetry: spans and annotations in, checked rows out (source document 003)."""
