"""Secrets and personal data: find them, redact them, count them.

Three detectors work together: ``detect-secrets`` knows the keys of some twenty vendors,
``phonenumbers`` knows the numbering plans, and the patterns in :mod:`tracetune.privacy_patterns`
know e-mail addresses, cards (Luhn), IBANs (mod 97), tokens, private keys, passwords and keys that
stand behind their name. Everything is offline and deterministic. What is found becomes a typed
placeholder such as ``<EMAIL>``; this is repeated until nothing is found, so redacting twice changes
nothing.

Names of people and addresses of houses are not found: that needs a language model.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tracetune.errors import DataError
from tracetune.privacy_patterns import Finding, detect, is_suspicious

PLAIN_ID = (
    r"^(?:(?:[a-z]{1,16}[-_:])?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|[0-9a-f]{32})$"
)
"""Ids that say nothing about anybody: UUIDs and trace ids. Same text in Python, RE2 and Java."""
TELEMETRY_ID = r"^[0-9a-f]{16}$"
"""Span ids of OpenTelemetry; elsewhere 16 digits may be a card."""
NAME_ID = r"^[A-Za-z0-9][A-Za-z0-9._:/#-]{0,127}$"
"""Ids that an application gave."""
RISKY_ID = (
    r"[0-9](?:[._:/#-]?[0-9]){6,}|[A-Za-z0-9]{20,}"
    r"|(?:^|[^A-Za-z0-9])(?:sk|pk|rk|hf|gh[a-z]|glpat|xox[a-z])[-_]"
    r"|[Bb]earer|[Pp]assw|[Ss]ecret|[Tt]oken|[Aa]pi.?[Kk]ey"
)
"""What makes such an id look like a number of a person or like a key."""
HASHED_ID_PREFIX = "sha256-"

_MAX_ROUNDS = 10


class PrivacyOptions(BaseModel):
    """What happens to secrets and personal data in the text of a row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["redact", "drop"] = Field(
        "redact",
        description="redact: typed placeholders such as <EMAIL>; drop: the whole row is left out.",
    )


class PrivacyReport(BaseModel):
    """What was found in the texts of the rows, and what is left.

    Attributes:
        policy: What was done with it.
        texts: Texts that were searched.
        texts_hit: Texts in which something was found.
        found: Findings by kind before redaction.
        left: Findings by kind in the rows as written; empty, or the run has stopped.
        spans_dropped: Spans left out by the policy ``drop``.
    """

    model_config = ConfigDict(extra="forbid")

    policy: Literal["redact", "drop"]
    texts: int = 0
    texts_hit: int = 0
    found: dict[str, int] = {}
    left: dict[str, int] = {}
    spans_dropped: int = 0


def safe_id(identifier: str, *, telemetry: bool = False) -> str:
    """``identifier`` if it is a plain name, else a hash of it: the same id gives the same hash.

    Args:
        identifier: A session, trace, span or reviewer id as the application wrote it.
        telemetry: True for span and trace ids, where 16 hexadecimal digits are always fine.
    """
    # fullmatch, because $ alone would also stand before a final line break.
    if re.fullmatch(PLAIN_ID, identifier):
        return identifier
    if telemetry and re.fullmatch(TELEMETRY_ID, identifier):
        return identifier
    if re.fullmatch(NAME_ID, identifier) and not re.search(RISKY_ID, identifier):
        return identifier
    return HASHED_ID_PREFIX + hashlib.sha256(identifier.encode("utf-8")).hexdigest()[:32]


def find(text: str) -> list[Finding]:
    """Secrets and personal data in ``text``, in order and without overlap.

    Findings that overlap become one that covers both, of the kind of the longer one.
    """
    merged: list[Finding] = []
    for finding in sorted(detect(text), key=lambda f: (f.start, -f.end, f.kind)):
        last = merged[-1] if merged else None
        if last is None or finding.start >= last.end:
            merged.append(finding)
        elif finding.end > last.end:
            longer = finding if finding.end - finding.start > last.end - last.start else last
            merged[-1] = Finding(last.start, finding.end, longer.kind)
    return merged


def redact(text: str) -> str:
    """``text`` with a typed placeholder in place of everything :func:`find` finds."""
    return redact_counted(text)[0]


def redact_counted(text: str) -> tuple[str, Counter[str]]:
    """Like :func:`redact`, with how many of each kind were replaced.

    Raises:
        DataError: If ten rounds do not clear the text, which would be a fault of the patterns.
    """
    counts: Counter[str] = Counter()
    if not is_suspicious(text):
        return text, counts
    for _ in range(_MAX_ROUNDS):
        findings = find(text)
        if not findings:
            return text, counts
        counts.update(finding.kind for finding in findings)
        parts, position = [], 0
        for finding in findings:
            parts += [text[position : finding.start], f"<{finding.kind}>"]
            position = finding.end
        text = "".join(parts) + text[position:]
    raise DataError(
        f"a text still holds {sorted({f.kind for f in find(text)})} after {_MAX_ROUNDS} rounds "
        "of redaction",
        remedy="report the kind; until then set privacy.policy to drop",
    )


def redact_json(value: Any) -> tuple[Any, Counter[str]]:
    """A JSON value with every string, key and number in it redacted; it stays valid JSON.

    A value is read together with its key, so that ``{"password": "hunter2"}`` is seen. A number
    that is a card or a telephone number becomes a string.
    """
    counts: Counter[str] = Counter()
    return _walk(value, "", counts), counts


def _walk(value: Any, key: str, counts: Counter[str]) -> Any:
    if isinstance(value, dict):
        return {_redact_into(k, counts): _walk(v, k, counts) for k, v in value.items()}
    if isinstance(value, list):
        return [_walk(item, key, counts) for item in value]
    if isinstance(value, str):
        return _redact_value(_redact_into(value, counts), key, counts)
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
        clean = _redact_value(_redact_into(text, counts), key, counts)
        return value if clean == text else clean
    return value


def _redact_into(text: str, counts: Counter[str]) -> str:
    if not is_suspicious(text):
        return text
    clean, found = redact_counted(text)
    counts.update(found)
    return clean


def _redact_value(text: str, key: str, counts: Counter[str]) -> str:
    if not key:
        return text
    prefix = f"{key}: "
    if not is_suspicious(prefix + text):
        return text
    clean, found = redact_counted(prefix + text)
    if not found or not clean.startswith(prefix):
        return text
    counts.update(found)
    return clean[len(prefix) :]


def count_in_json(value: Any) -> Counter[str]:
    """How many findings of each kind a JSON value holds, read as :func:`redact_json` reads it."""
    return redact_json(value)[1]


class Redactor:
    """Redacts the texts of one run and keeps the books.

    Args:
        options: The policy.
    """

    def __init__(self, options: PrivacyOptions) -> None:
        """See the class."""
        self.options = options
        self._texts = 0
        self._hit = 0
        self._found: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        self._dropped = 0
        self._searched = ""

    def text(self, text: str) -> tuple[str, bool]:
        """The redacted text, and whether anything was found."""
        clean, counts = redact_counted(text)
        self._searched = clean
        return clean, self._count(counts)

    def json(self, value: Any) -> tuple[Any, bool]:
        """The redacted JSON value, and whether anything was found."""
        clean, counts = redact_json(value)
        return clean, self._count(counts)

    def _count(self, counts: Counter[str]) -> bool:
        self._texts += 1
        self._hit += bool(counts)
        self._found.update(counts)
        return bool(counts)

    def drop(self) -> None:
        """Counts a span that the policy leaves out."""
        self._dropped += 1

    def check(self, value: Any, *, where: str) -> None:
        """Searches a text or JSON value as it is about to be written.

        The very text that :meth:`text` gave last is not searched anew: redaction ends with a
        search of it that found nothing.

        Raises:
            DataError: If anything is left; the message says kind and place, never the text.
        """
        if value is self._searched:
            return
        left = count_in_json(value)
        if left:
            self._left.update(left)
            raise DataError(
                f"after redaction it still holds {dict(sorted(left.items()))}",
                where=where,
                remedy="report the kind; until then set privacy.policy to drop",
            )

    def report(self) -> PrivacyReport:
        """What was found and what is left."""
        return PrivacyReport(
            policy=self.options.policy,
            texts=self._texts,
            texts_hit=self._hit,
            found=dict(sorted(self._found.items())),
            left=dict(sorted(self._left.items())),
            spans_dropped=self._dropped,
        )
