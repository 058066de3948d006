"""What the commands ``kedro eisv ...`` do."""

from __future__ import annotations

from pathlib import Path

from tracetune.eisv.gates import COHERENCE_BAR, VALID_BAR, gate1, read_results


def judge_file(path: Path) -> tuple[bool, list[str]]:
    """Gate 1 on a results document.

    Args:
        path: The document.

    Returns:
        Whether it passes, and the lines for people: figures, verdict, reasons, what it shows.

    Raises:
        DataError: The file cannot be read or holds no results.
    """
    found = read_results(path)
    verdict = gate1(found)
    known = {"model": found.model, "variant": found.variant, "temperature": found.temperature}
    lines = [f"{name:15} {value}" for name, value in known.items() if value is not None]
    lines += [
        f"coherence       {found.mean_coherence:.4f} (must be above {COHERENCE_BAR}), "
        f"{found.n_valid} answers in vocabulary",
        f"valid rate      {found.valid_rate:.4f} (must be at least {VALID_BAR:.2f}), "
        f"{found.n_total} answers",
        f"Gate 1          {'passed' if verdict.passed else 'failed'}",
        *(f"  {reason}" for reason in verdict.reasons),
        f"Shows           {verdict.shows}",
        f"Does not show   {verdict.does_not_show}",
    ]
    return verdict.passed, lines
