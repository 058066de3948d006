"""The detectors behind :mod:`tracetune.privacy`: each gives places and kinds, none decides.

A cheap test comes first, because most texts hold nothing of interest. Every pattern refuses its own
placeholder, so that ``password=<PASSWORD>`` is not found again.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One secret or personal datum in a text: where it stands and what it is."""

    start: int
    end: int
    kind: str


KINDS = ("API_KEY", "CARD", "EMAIL", "IBAN", "PASSWORD", "PHONE", "PRIVATE_KEY", "TOKEN")
"""Everything that is looked for; the placeholder of a kind is its name in angle brackets."""

_NOT_PLACEHOLDER = rf"(?!<(?:{'|'.join(KINDS)})>)"
_DIGITS = r"\d(?:[\s().\-/]{0,3}\d){6}"
_LONG_TOKEN = r"[A-Za-z0-9_+/=\-]{20}"

_ANYTHING = re.compile(
    rf"@|%40|{_DIGITS}|{_LONG_TOKEN}|eyJ|-----BEGIN|PuTTY-User-Key|(?i:bearer|pass|pwd|\bpin\b"
    r"|secret|token|key|credential|authorization|[a-z]{2}\d{2}\s?[a-z0-9]{4})"
    r"|(?:sk|pk|rk|hf|gsk|xai|r8|gh[a-z]|glpat|npm|xox[a-z])[-_]"
)
_HAS_DIGITS = re.compile(_DIGITS)
_HAS_LONG_TOKEN = re.compile(rf"{_LONG_TOKEN}|_authToken|://[^\s/]*@")

_EMAIL = re.compile(
    r"(?<![\w.+'-])[\w.+'-]++(?:@|%40)(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]{0,22}[^\W\d_]"
)
_CARD = re.compile(
    r"(?<!\w)(?<!\d[.-])"
    r"(?:\d{13,19}|\d{4}([ .-])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ .-])\d{6}\2\d{4,5})(?![\w-])"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{1,4}){3,8}(?![A-Za-z0-9])")
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|hf|gsk|xai|r8|gh[oprsu]|github_pat|glpat|npm|xox[abeoprs])"
    r"[-_][A-Za-z0-9_-]{8,}|AIza[\w-]{30,}|ya29\.[\w-]{20,}"
    r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,})"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
    r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)"
    r"|PuTTY-User-Key-File-\d[\s\S]*"
)
_JWT = re.compile(r"(?<![A-Za-z0-9])eyJ[\w-]{5,}\.[\w=-]{5,}(?:\.[\w=+/-]*)?")
_BEARER = re.compile(rf"\b[Bb](?:earer|EARER)\s+{_NOT_PLACEHOLDER}([\w.~+/=-]{{8,}})")
_HEADER = re.compile(
    r"(?i)\b(?:proxy-)?authorization\b[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|token|digest)\s+)?+"
    rf"{_NOT_PLACEHOLDER}([^\s\"',]{{6,}})"
)
_NAMED_KEY = re.compile(
    r"(?i)(?<![a-z])(?:(?:api|access|secret|private|auth|client|account|app|signing|encryption"
    r"|session|refresh|id|bearer|service)[ _-]?(?:key|token|secret)|apikey|secret|token"
    r"|credentials?)[\"']?"
    rf"(\s*(?::|=>?)\s*|\s+(?:is|was)[:\s]\s*)[\"'`]?{_NOT_PLACEHOLDER}([^\s\"'`,;]{{6,}})"
)
_PASSWORD = re.compile(
    r"(?i)(?<![a-z])(?:password|passwort|passwd|pwd|passphrase|passcode|pin|pass(?=\s*[:=]))[\"']?"
    r"(\s*(?::|=>?)\s*|\s+(?:is|was|to)[:\s]\s*|\s+(?=\S*\d))"
    rf"[\"'`]?{_NOT_PLACEHOLDER}([^\s\"'`,;]{{4,}})"
)
_UNLIKE_A_WORD = re.compile(r"[\d@#$%^&*!_]|(?=.{16})[a-z]+[A-Z]")
_URL_LOGIN = re.compile(rf"://([^\s/@:]*:{_NOT_PLACEHOLDER}[^\s/@]+)@")
_LOOSE_TOKEN = re.compile(r"(?<![\w/.+-])[A-Za-z0-9_-]{24,}={0,2}(?![\w/])")

_PHONE_WORD = re.compile(
    r"(?i)\b(?:telephone|phone|telefon|tel|call|mobile|fax|sms|whatsapp|reach|ring|dial)\b"
    r"(?:\s+(?:number|no|nr|me|us|him|her|them|back|is|at|on|under))*[:.#=]?\s*[\"'(+]{0,2}$"
)
# Not in the middle of a longer number, a decimal or an id.
_FRESH = r"(?<!\w)(?<!\d[.-])"
_PHONE_PLUS = re.compile(r"\+[ (]{0,2}[1-9](?:[ ().\-/]{0,3}\d){6,18}")
_PHONE_00 = re.compile(rf"{_FRESH}00[1-9](?:[ ().\-/]{{0,2}}\d){{7,18}}")
_PHONE_US = re.compile(
    rf"{_FRESH}(?:\+?1[ .-]?)?(?:\(\d{{3}}\) ?\d{{3}}[ .-]|\d{{3}}([.-])\d{{3}}\1"
    r"|[2-9]\d{2} [2-9]\d{2} )\d{4}(?!\d|-\d)"
)
_PHONE_LOOSE = re.compile(rf"{_FRESH}\(?\d(?:[ ().\-/]{{0,2}}\d){{6,14}}(?!\d)")


def is_suspicious(text: str) -> bool:
    """The cheap test: False if no detector can find anything in ``text``."""
    return _ANYTHING.search(text) is not None


def detect(text: str) -> Iterator[Finding]:
    """Everything any detector finds in ``text``; findings may overlap."""
    if not is_suspicious(text):
        return
    for detector in (_find_patterns, _find_named, _find_loose_tokens):
        yield from detector(text)
    if _HAS_LONG_TOKEN.search(text):
        yield from _find_vendor_keys(text)
    if _HAS_DIGITS.search(text):
        yield from _find_cards(text)
        yield from _find_phones(text)


def _find_patterns(text: str) -> Iterator[Finding]:
    rows: list[tuple[re.Pattern[str], str, int]] = [
        (_JWT, "TOKEN", 0),
        (_PRIVATE_KEY, "PRIVATE_KEY", 0),
        (_HEADER, "TOKEN", 1),
    ]
    if "@" in text or "%40" in text:
        rows += [(_EMAIL, "EMAIL", 0), (_URL_LOGIN, "PASSWORD", 1)]
    for pattern, kind, group in rows:
        for match in pattern.finditer(text):
            yield Finding(match.start(group), match.end(group), kind)
    for match in _BEARER.finditer(text):
        if _is_tokenlike(match[1]):
            yield Finding(match.start(1), match.end(1), "TOKEN")
    for match in _KEY.finditer(text):
        if any(map(str.isdigit, match[0])) or len(match[0]) >= 30:
            yield Finding(match.start(), match.end(), "API_KEY")
    for match in _IBAN.finditer(text):
        # The groups of an IBAN look like short words, so the match may have run on into the text.
        for end in _group_ends(match):
            if is_iban(text[match.start() : end]):
                yield Finding(match.start(), end, "IBAN")
                break


def _group_ends(match: re.Match[str]) -> Iterator[int]:
    yield match.end()
    for offset in range(len(match[0]) - 1, 0, -1):
        if match[0][offset] in " -":
            yield match.start() + offset


def _is_tokenlike(value: str) -> bool:
    return len(value) >= 20 or any(map(str.isdigit, value))


def _find_named(text: str) -> Iterator[Finding]:
    """Values behind a name: ``api_key=...``, ``my password is ...``."""
    for pattern, kind in ((_NAMED_KEY, "API_KEY"), (_PASSWORD, "PASSWORD")):
        for match in pattern.finditer(text):
            value = match[2].rstrip(".,;:!?)]}>")
            strict = match[1].strip()[:1] not in {":", "="}
            # "my password is wrong" is no secret, "password: wrong" may be one.
            plain = not _UNLIKE_A_WORD.search(value)
            if len(value) < 4 or (plain and (strict or kind == "API_KEY")):
                continue
            yield Finding(match.start(2), match.start(2) + len(value), kind)


def _find_loose_tokens(text: str) -> Iterator[Finding]:
    """Long random-looking runs of capitals, small letters and digits without any name."""
    for match in _LOOSE_TOKEN.finditer(text):
        # Slugs such as Report-2024-Q3-Final are words with dashes; a key has a long run.
        run = max(re.split("[-_]", match[0]), key=len)
        if (
            len(run) >= 16
            and sum(map(str.isdigit, run)) >= 2
            and any(map(str.isupper, run))
            and any(map(str.islower, run))
            and _entropy(run) >= 3.3
        ):
            yield Finding(match.start(), match.end(), "API_KEY")


def _entropy(text: str) -> float:
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in Counter(text).values())


@functools.cache
def _vendor_detectors() -> list[Any]:
    """Detectors of detect-secrets whose patterns are specific enough for everyday text.

    Left out: public IP addresses (no secret), Artifactory (any word that starts with AP and a
    capital from A to F), private keys and JWT (found whole by the patterns here), basic
    authentication (here with the user name).
    """
    from detect_secrets.plugins import (
        aws,
        azure_storage_key,
        cloudant,
        discord,
        github_token,
        gitlab_token,
        ibm_cloud_iam,
        ibm_cos_hmac,
        mailchimp,
        npm,
        openai,
        pypi_token,
        sendgrid,
        slack,
        softlayer,
        square_oauth,
        stripe,
        telegram_token,
        twilio,
    )

    classes: list[Callable[[], Any]] = [
        aws.AWSKeyDetector,
        azure_storage_key.AzureStorageKeyDetector,
        cloudant.CloudantDetector,
        discord.DiscordBotTokenDetector,
        github_token.GitHubTokenDetector,
        gitlab_token.GitLabTokenDetector,
        ibm_cloud_iam.IbmCloudIamDetector,
        ibm_cos_hmac.IbmCosHmacDetector,
        mailchimp.MailchimpDetector,
        npm.NpmDetector,
        openai.OpenAIDetector,
        pypi_token.PypiTokenDetector,
        sendgrid.SendGridDetector,
        slack.SlackDetector,
        softlayer.SoftlayerDetector,
        square_oauth.SquareOAuthDetector,
        stripe.StripeDetector,
        telegram_token.TelegramBotTokenDetector,
        twilio.TwilioKeyDetector,
    ]
    return [make() for make in classes]


def _find_vendor_keys(text: str) -> Iterator[Finding]:
    for detector in _vendor_detectors():
        for pattern in detector.denylist:
            for match in pattern.finditer(text):
                yield Finding(match.start(), match.end(), "API_KEY")


def _find_cards(text: str) -> Iterator[Finding]:
    for match in _CARD.finditer(text):
        if is_card(match[0]):
            yield Finding(match.start(), match.end(), "CARD")


def is_card(text: str) -> bool:
    """True for 13 to 19 digits with the first digit of a payment card and a right Luhn sum."""
    digits = [int(character) for character in text if character.isdigit()]
    if not 13 <= len(digits) <= 19 or not 2 <= digits[0] <= 6:
        return False
    doubled = (2 * d - 9 if d > 4 else 2 * d for d in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_iban(text: str) -> bool:
    """True for 15 to 34 characters whose ISO 7064 remainder (mod 97) is 1."""
    plain = re.sub(r"[ -]", "", text).upper()
    if not 15 <= len(plain) <= 34 or not plain.isascii():
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _find_phones(text: str) -> Iterator[Finding]:
    """International numbers, US numbers as people write them, others behind a word like "call"."""
    for pattern, trunk in ((_PHONE_PLUS, 1), (_PHONE_00, 2)):
        for match in pattern.finditer(text):
            for end in _number_ends(match):
                if _is_phone("+" + text[match.start() + trunk : end], strict=trunk == 2):
                    yield Finding(match.start(), end, "PHONE")
                    break
    for match in _PHONE_US.finditer(text):
        yield Finding(match.start(), match.end(), "PHONE")
    for match in _PHONE_LOOSE.finditer(text):
        if _PHONE_WORD.search(text[max(0, match.start() - 50) : match.start()]):
            yield Finding(match.start(), match.end(), "PHONE")


def _number_ends(match: re.Match[str]) -> Iterator[int]:
    """The end, then the ends of shorter groups: the next number in the text may be part of it."""
    yield match.end()
    for offset in range(len(match[0]) - 1, 6, -1):
        if not match[0][offset].isdigit() and match[0][offset - 1].isdigit():
            yield match.start() + offset


def _is_phone(text: str, *, strict: bool) -> bool:
    import phonenumbers

    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        return False
    check = phonenumbers.is_valid_number if strict else phonenumbers.is_possible_number
    return bool(check(number))
