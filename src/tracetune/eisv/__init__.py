"""From trajectories of an inner state to short expressions (source document 004, EISV-Lumen)."""
