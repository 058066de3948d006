"""Invented secrets and personal data, which users of the sample paste into their requests.

Every string is made up: reserved domains and phone numbers, card numbers of test ranges, keys of
random letters. They are put together here in pieces so that no scanner of committed files takes
one for a real key; tests look for them in everything a run produces.
"""

from __future__ import annotations

import random
import string

_LETTERS = string.ascii_letters + string.digits


def _random(rng: random.Random, length: int, letters: str = _LETTERS) -> str:
    return "".join(rng.choice(letters) for _ in range(length))


def planted() -> dict[str, list[str]]:
    """Every planted string by kind: ``email``, ``phone``, ``card``, ``token``, ``api_key``."""
    parts = (in_requests(), in_archive())
    return {kind: [text for part in parts for text in part.get(kind, [])] for kind in in_requests()}


def in_archive() -> dict[str, list[str]]:
    """What people paste into search queries and into requests to the agents of the archive.

    The last e-mail address stands in the description of an item.
    """
    rng = random.Random("private:archive")
    return {
        "email": [
            "f.amara@example.net",
            "desk+archive@mail.example.com",
            "wei.zhang@example.edu",
            "press-office@example.org",
        ],
        "phone": ["+1 (555) 010-0162", "+33 1 99 00 12 34"],
        "card": ["6011 1111 1111 1117"],
        "token": ["Bearer " + _random(rng, 44)],
        "api_key": ["s" + "k-proj-" + _random(rng, 44), "gl" + "pat-" + _random(rng, 20)],
    }


def in_requests(seed: int = 20261001) -> dict[str, list[str]]:
    """What users of the routing agent paste into their requests."""
    rng = random.Random(f"private:{seed}")
    names = [
        "maria.keller",
        "o.adeyemi",
        "j_lindqvist",
        "tanaka.yuki",
        "billing-contact",
        "l.novak",
    ]
    upper = string.ascii_uppercase + string.digits
    return {
        "email": [
            f"{name}@{host}" for name in names for host in ("example.com", "mail.example.org")
        ],
        "phone": [f"+1 (555) 010-{number}" for number in ("0134", "0178")]
        + ["+1-202-555-0147", "+44 20 7946 0958", "+49 30 901820 417", "(415) 555-0199"],
        "card": [
            "4242 4242 4242 4242",
            "5555-5555-5555-4444",
            "378282246310005",
            "4111111111111111",
        ],
        "token": [
            "Bearer " + "ey" + f"J{_random(rng, 18)}.{_random(rng, 40)}.{_random(rng, 43)}",
            "Bearer " + _random(rng, 40),
            "authorization: bearer " + _random(rng, 36, string.hexdigits.lower()),
        ],
        "api_key": [
            "s" + "k-" + _random(rng, 48),
            "s" + "k-ant-" + "api03-" + _random(rng, 80),
            "gh" + "p_" + _random(rng, 36),
            "AK" + "IA" + _random(rng, 16, upper),
            "xo" + "xb-" + _random(rng, 12, string.digits) + "-" + _random(rng, 24),
            "AI" + "za" + _random(rng, 35),
        ],
    }


PHRASES = {
    "email": ["my address is {it}", "write to {it}", "cc {it}", "the account is {it}"],
    "phone": ["call me at {it}", "my number is {it}", "reach me on {it}"],
    "card": ["the card is {it}", "card number {it}", "charge {it}"],
    "token": ["I use {it}", "the header is {it}", "it sends {it}"],
    "api_key": ["my key is {it}", "with api key {it}", "the token {it} does not work"],
}
"""How people bring them up, by kind."""
