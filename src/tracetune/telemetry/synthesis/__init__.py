"""Synthetic rows for telemetry: what is missing, who is asked, what is kept for review."""
