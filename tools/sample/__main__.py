"""``python -m tools.sample``: posts the sample to a server, or exports it from one.

``post --url URL`` needs the packages of the server's own environment (OTLP messages).
``export --url URL [--to FOLDER]`` needs tracetune; it writes the committed snapshot.
``digest`` prints a hash of everything that would be posted, to show that it is always the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path

from tools.sample.spans import ANCHOR, PROJECT
from tools.sample.whole import make_sample

FOLDER = Path(__file__).parents[2] / "data/01_raw/demo/telemetry"


def digest() -> str:
    """SHA-256 of all spans and annotations in the order of posting."""
    everything = [dataclasses.asdict(part) for part in make_sample()]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def post(url: str) -> None:
    from tools.sample.post import post_sample

    post_sample(url, make_sample())


def export(url: str, folder: Path) -> None:
    from tracetune.telemetry.phoenix import PhoenixProject

    anchor = ANCHOR.isoformat().replace("+00:00", "Z")
    manifest = PhoenixProject(url, PROJECT).save_snapshot(folder, anchor=anchor)
    print(", ".join(f"{count:,} rows of {table}" for table, count in manifest.counts.items()))
    print(f"content hash {manifest.content_hash}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.sample", description=__doc__)
    parser.add_argument("command", choices=["post", "export", "digest"])
    parser.add_argument("--url", default="http://127.0.0.1:6006")
    parser.add_argument("--to", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    if arguments.command == "post":
        post(arguments.url)
    elif arguments.command == "export":
        export(arguments.url, arguments.to)
    else:
        print(digest())


if __name__ == "__main__":
    main()
