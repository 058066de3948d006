"""From the one released adapter to files that other programs run: merge, GGUF, Modelfile, card."""
