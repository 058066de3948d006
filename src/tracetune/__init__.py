"""tracetune: from what an LLM application did to smaller models that do it better."""

__version__ = "0.1.0"
