"""Conversations with an assistant: exports → clean records of one's own way of working (000)."""
