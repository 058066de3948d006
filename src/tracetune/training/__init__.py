"""Training: from rows on disk to one LoRA adapter relative to its base model."""
