"""Kedro dataset classes of the project: all save beside the target and rename."""
