"""Secrets and personal data: found, replaced, and nothing else touched."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracetune.errors import DataError
from tracetune.privacy import (
    PrivacyOptions,
    Redactor,
    count_in_json,
    find,
    redact,
    redact_json,
    safe_id,
)
from tracetune.privacy_patterns import KINDS, is_card, is_iban

# In pieces, so that no scanner of committed files takes one for a real key.
FOUND = [
    ("EMAIL", "jane.doe@example.com"),
    ("EMAIL", "j+tag_1@mail.sub-domain.example.co.uk"),
    ("EMAIL", "jörg@müller.example"),
    ("EMAIL", "jane%40example.com"),
    ("PHONE", "+1 415 555 0132"),
    ("PHONE", "+1-202-555-0175"),
    ("PHONE", "(415) 555-0132"),
    ("PHONE", "415-555-0132"),
    ("PHONE", "212.555.0199"),
    ("PHONE", "+44 20 7946 0958"),
    ("PHONE", "+49 30 901820"),
    ("PHONE", "0044 20 7946 0958"),
    ("CARD", "4111 1111 1111 1111"),
    ("CARD", "4242-4242-4242-4242"),
    ("CARD", "5555555555554444"),
    ("CARD", "3782 822463 10005"),
    ("IBAN", "DE89 3704 0044 0532 0130 00"),
    ("IBAN", "GB82WEST12345698765432"),
    ("API_KEY", "sk" + "-live-4f9a8b7c6d5e4f3a"),
    ("API_KEY", "sk" + "-ant-api03-AbCdEf123456_-xyz"),
    ("API_KEY", "AK" + "IAIOSFODNN7EXAMPLE"),
    ("API_KEY", "gh" + "p_16C7e42F292c6912E7710c838347Ae178B4a"),
    ("API_KEY", "xo" + "xb-123456789012-abcdefghijkl"),
    ("API_KEY", "hf" + "_abcdefGHIJKL1234567890"),
    ("API_KEY", "AI" + "zaSyA1234567890abcdefghijklmnopqrstuv"),
    ("API_KEY", "SG" + ".ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr"),
    ("API_KEY", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4"),
    ("TOKEN", "ey" + "JhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"),
    (
        "PRIVATE_KEY",
        "--" + "---BEGIN RSA PRIVATE KEY-----\nMIIEow+/=\nabc\n-----END RSA PRIVATE KEY-----",
    ),
]
NAMED = [
    ("my password is hunter2.", "hunter2"),
    ("Password: correcthorse", "correcthorse"),
    ("pwd=abcd;", "abcd"),
    ("change my password to S3cret!", "S3cret!"),
    ("PIN 4821", "4821"),
    ("api_key=abc123def456", "abc123def456"),
    ('"api-key": "0123456789abcdef0123456789abcdef"', "0123456789abcdef0123456789abcdef"),
    ("client secret is 12ab34cd56", "12ab34cd56"),
    ("Authorization: Bearer abc123DEF456", "abc123DEF456"),
    ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("use Bearer 0a1b2c3d4e5f", "0a1b2c3d4e5f"),
    ("postgres://app:pa55@db.local/x", "app:pa55"),
    ("my number is +1 415 555 0132x12", "415 555 0132"),
    ("card-4111111111111111", "4111111111111111"),
    ("call me at 555-0132", "555-0132"),
    ("phone: 020 7946 0958", "020 7946 0958"),
]
CLEAN = [
    "550e8400-e29b-41d4-a716-446655440000",
    "trace 4bf92f3577b34da6a3ce929d0e0e4736 span 00f067aa0ba902b7",
    "on 2026-02-21 at 12:33:10, or 2026-02-21T12:33:10.123456Z, or 21.02.2026 08:00-09:30",
    "invoice INV-2026-000123 over 1,234,567.89 EUR, order number 4155550132",
    "epoch 1714564800000 and tracking number 9876543210987654",
    "pi is 3.14159265358979, we are at -73.98765432, 40.12345678",
    "0.30000000000000004",
    "between 100 200 3000 units, 12 34 56 78 90 12 34",
    "host 10.0.0.1 with version 1.2.3.4567 on port 8080",
    "Report-2026-Q3-Final-Version-12-Munich",
    "my password is wrong, please reset my password",
    "the api key is missing and the token expired",
    "the secret of a good key account manager; token classification",
    "a bearer of good news, APACHE SERVER, passing 2026 exams",
    "meet @someone at noon, 5 @ 3 euros each",
    "src/tracetune/telemetry/rules.py:120 and https://example.com/a/b?c=1#d",
    "नमस्ते 🙂 καλημέρα",
    "".join(f"<{kind}> " for kind in KINDS),
]


@pytest.mark.parametrize(("kind", "secret"), FOUND)
@pytest.mark.parametrize("frame", ["{}", "please use {} today", "({}),", 'it says "{}"!', "x: {}"])
def test_what_must_be_found(kind: str, secret: str, frame: str) -> None:
    text = frame.format(secret)
    clean = redact(text)
    assert clean == frame.format(f"<{kind}>")


@pytest.mark.parametrize(("text", "secret"), NAMED)
def test_what_is_known_by_its_name(text: str, secret: str) -> None:
    clean = redact(text)
    assert secret.strip(";!") not in clean
    assert "<" in clean


@pytest.mark.parametrize("text", CLEAN)
def test_what_must_stay(text: str) -> None:
    assert find(text) == []
    assert redact(text) == text


def test_json_stays_json_and_is_read_with_its_keys() -> None:
    value = {
        "agent": "billing",
        "password": "hunter",
        "phone": 4155550132,
        "card": 4111111111111111,
        "order": 4155550132,
        "score": 0.25,
        "ok": True,
        "nothing": None,
        "deep": [{"jane@example.com": ['ask "jane@example.com"']}],
    }
    clean, counts = redact_json(value)
    assert clean == {
        "agent": "billing",
        "password": "<PASSWORD>",
        "phone": "<PHONE>",
        "card": "<CARD>",
        "order": 4155550132,
        "score": 0.25,
        "ok": True,
        "nothing": None,
        "deep": [{"<EMAIL>": ['ask "<EMAIL>"']}],
    }
    assert counts == {"PASSWORD": 1, "PHONE": 1, "CARD": 1, "EMAIL": 2}
    assert not count_in_json(json.loads(json.dumps(clean)))


def test_the_check_names_kind_and_place_and_never_the_text() -> None:
    redactor = Redactor(PrivacyOptions())
    with pytest.raises(DataError) as error:
        redactor.check({"a": "jane@example.com"}, where="span 12")
    assert "EMAIL" in str(error.value)
    assert "span 12" in str(error.value)
    assert "jane" not in str(error.value)
    assert redactor.report().left == {"EMAIL": 1}


def test_the_check_trusts_only_the_text_that_redaction_gave() -> None:
    redactor = Redactor(PrivacyOptions())
    clean, hit = redactor.text("ask jane@example.com or me")
    assert hit
    redactor.check(clean, where="span 12")
    with pytest.raises(DataError):
        redactor.check(clean + " jane@example.com", where="span 12")


@pytest.mark.parametrize(
    "identifier",
    ["s1", "session-0001", "demo:s-42", "550e8400-e29b-41d4-a716-446655440000", "ab" * 16],
)
def test_plain_ids_stay(identifier: str) -> None:
    assert safe_id(identifier) == identifier


@pytest.mark.parametrize(
    "identifier",
    [
        *(secret for _, secret in FOUND),
        "user-jane@example.com",
        "4111111111111111",
        "14155550132",
        "name with spaces",
        "abc\n",
    ],
)
def test_ids_that_may_say_who_somebody_is_are_hashed(identifier: str) -> None:
    hashed = safe_id(identifier)
    assert hashed.startswith("sha256-")
    assert hashed == safe_id(identifier)


def test_span_ids_of_digits_alone_are_span_ids() -> None:
    assert safe_id("4111111111111111", telemetry=True) == "4111111111111111"


def test_checksums() -> None:
    assert is_card("4111 1111 1111 1111")
    assert not is_card("4111 1111 1111 1112")
    assert not is_card("0000 0000 0000 0000")
    assert is_iban("DE89370400440532013000")
    assert not is_iban("DE89370400440532013001")


SECRETS = st.sampled_from([secret for _, secret in FOUND])
PIECES = st.one_of(
    SECRETS,
    st.sampled_from([text for text, _ in NAMED]),
    st.sampled_from([*CLEAN, "<EMAIL>", "password", ":", "=", "is", "+", "@", "-", "1", "key"]),
    st.text(max_size=8),
    st.integers(0, 10**17).map(str),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=10), st.sampled_from(["", " ", "\n", ", "]))
def test_redacting_twice_changes_nothing(pieces: list[str], separator: str) -> None:
    once = redact(separator.join(pieces))
    assert find(once) == []
    assert redact(once) == once


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=30),
    SECRETS,
    st.text(max_size=30),
    st.sampled_from([" ", "\n", "\t", '"', ", "]),
)
def test_no_planted_secret_survives(before: str, secret: str, after: str, edge: str) -> None:
    assert secret not in redact(f"{before}{edge}{secret}{edge}{after}")
    clean, _ = redact_json({before: [f"{edge}{secret}{edge}"], "k": {"v": secret}})
    assert secret not in json.dumps(clean, ensure_ascii=False)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | PIECES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PIECES, inner, max_size=3),
        max_leaves=8,
    )
)
def test_redacting_json_twice_changes_nothing(value: object) -> None:
    once, _ = redact_json(value)
    assert redact_json(once)[0] == once
    assert not count_in_json(json.loads(json.dumps(once)))


@pytest.mark.parametrize(
    "piece", ["a", "1 ", "@", "a-", "eyJ", "password ", "+1 ", "call ", "A1b", "a@", "://", "DE89 "]
)
def test_long_text_takes_no_long_time(piece: str) -> None:
    text = (piece * 200_000)[:200_000]
    start = time.perf_counter()
    redact(text)
    assert time.perf_counter() - start < 5
