"""Pipelines: one package per name on the command line, and the stages they share."""
