"""tracetune: from what an LLM application did to smaller models that do it better."""

import os

__version__ = "0.1.0"

# Idle threads of matrix products sleep instead of spinning. Spinning takes the cores from every
# other process: two trainings at once on two cores were six times slower with it. It changes no
# result, and must be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
