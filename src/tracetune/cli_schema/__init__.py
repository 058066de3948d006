"""Requests in plain English to commands of a command-line program (source document 002)."""
