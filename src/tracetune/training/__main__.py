"""``python -m tracetune.training --job job.json --out DIR``: runs one job on any machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from tracetune.errors import TracetuneError


def main(arguments: list[str] | None = None) -> int:
    """Runs one job; 0, or 1 with a message on standard error."""
    parser = argparse.ArgumentParser(prog="python -m tracetune.training", description=__doc__)
    parser.add_argument("--job", type=Path, required=True, help="the job, a JSON document")
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--work", type=Path, help="folder for checkpoints (default: OUT.work)")
    parser.add_argument("--resume", action="store_true", help="refuse to start from the beginning")
    given = parser.parse_args(arguments)

    from tracetune.training.job import TrainingJob
    from tracetune.training.run import run

    try:
        job = TrainingJob.model_validate_json(given.job.read_text(encoding="utf-8"))
        run(job, given.out, given.work, resume=given.resume)
    except (OSError, ValidationError) as error:
        print(f"{given.job}: not a training job that can be run: {error}", file=sys.stderr)
        return 1
    except TracetuneError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
