"""Values for arguments: small pools, chosen by the type and name of an argument."""

from __future__ import annotations

from tracetune.cli_schema.schema import Argument


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PEOPLE = _words(
    "alice bob carol dave erin frank grace heidi ivan judy mallory niaj olivia peggy rupert sybil "
    "trent victor walter yuki amara chen diego fatima hana jonas kofi lena mateo priya"
)
BRANCHES = _words(
    "main develop staging release-2 feature/login feature/search fix/typo fix/cache-bug hotfix "
    "docs-update refactor/api feature/dark-mode ci-speedup experiment feature/export "
    "fix/null-check chore/deps next v3-prep fix/date-parse feature/webhooks cleanup"
)
REPOSITORIES = _words(
    "octo/site acme/api acme/website hexlab/engine north/maps tinyco/tools blue/charts "
    "redwood/cli lumen/player pixel/editor delta/sync orbit/docs quartz/parser harbor/mail "
    "sable/theme falcon/router ember/store iris/vision kite/mobile cedar/infra"
)
OWNERS = _words("octo acme hexlab north tinyco blue redwood lumen pixel delta orbit quartz")
PROJECTS = _words(
    "site api website engine maps tools charts cli player editor sync docs parser mail theme "
    "router store vision mobile infra"
)
NAMES = _words(
    "web-1 api-test backend frontend cache worker demo-app billing landing-page sandbox inventory "
    "my-tools playground reports notes-app crawler metrics auth-service archive uploads "
    "scheduler gateway search-index mailer"
)
IMAGES = _words(
    "nginx redis postgres:16 ubuntu:24.04 python:3.12 node:20 alpine mysql:8 busybox "
    "my-app:latest api:v2 worker:dev grafana rabbitmq httpd debian:12 mongo:7 traefik"
)
TAGS = _words(
    "v1.0.0 v1.2.0 v1.2.3 v2.0.0 v2.1.4 v0.9.1 v3.0.0-rc1 v0.1.0 v4.2.0 v1.10.2 v2.3.0 v5.0.1 "
    "v0.4.7 v1.8.0-beta v6.1.0"
)
PATHS = _words(
    "src/main.py docs/readme.md notes.txt build/output app/config.yml data/report.csv "
    "scripts/deploy.sh src/app services/api web/frontend tools/check.py tests/data todo.md "
    "lib/utils.js config/settings.toml images/logo.png backup/old"
)
FOLDERS = _words(
    "src services/api web/frontend build/output tests/data docs backup/old app tools/images "
    "deploy/staging packages/core worker"
)
LABELS = _words(
    "bug enhancement documentation urgent backend frontend security question good-first-issue "
    "wontfix performance design regression infra"
)
LANGUAGES = _words("Python Go Rust TypeScript Java Ruby Kotlin Swift Elixir Haskell")
WORKFLOWS = _words("build tests deploy nightly lint release docs e2e security-scan benchmarks")
IDS = _words("3f2a9c81 b71e40d2 9ac04f17 e5d8216b 07bb3c9e 6c1f7a20 d40e95ab 18f6c2e3 a9037d5c")
PORTS = _words("8080:80 3000:3000 5432:5432 443:443 9090:9090 8000:8000 6379:6379")
MOUNTS = _words("data:/data logs:/var/log src:/app config:/etc/app cache:/tmp/cache")
VARIABLES = _words("DEBUG=1 MODE=test LOG_LEVEL=info PORT=3000 REGION=eu WORKERS=4 CACHE=off")
FILTERS = _words("status=exited status=running name=web name=api label=test ancestor=nginx")
DAYS = _words("yesterday monday 2024-05-01 2025-01-15 10m 2h friday 2023-11-30 march")
DRIVERS = _words("local nfs overlay tmpfs")
WORDS = _words(
    "alpha bravo coral delta ember flint grove haven indigo juniper karma lotus maple nova opal "
    "pearl quartz raven sage tundra"
)
TITLES = (
    "Fix login page",
    "Add dark mode",
    "Update the docs",
    "Crash on startup",
    "Improve search speed",
    "Broken link in footer",
    "Support Python 3.13",
    "Remove old endpoints",
    "Typo in readme",
    "Memory leak in parser",
    "Add export to CSV",
    "Button does nothing",
    "Upgrade dependencies",
    "Wrong time zone in reports",
    "Slow page on mobile",
    "Rename config keys",
    "Handle empty input",
    "New icons for the menu",
    "Retry failed uploads",
    "Cache user settings",
)
SENTENCES = (
    "looks good to me",
    "please take a look",
    "this is a duplicate",
    "I can reproduce it",
    "fixed in the last release",
    "we will not do this",
    "thanks for the report",
    "tests are green now",
    "needs more work",
    "see the linked discussion",
    "small fixes and cleanup",
    "it happens every time",
    "first draft for feedback",
    "works on my machine",
    "ready for another round",
    "this should wait until next week",
)

_BY_NAME: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...] = (
    (("author", "assignee", "user", "reviewer", "member", "actor"), "person", PEOPLE),
    (("owner", "org", "organisation", "organization"), "owner", OWNERS),
    (("title", "subject", "headline"), "title", TITLES),
    (
        ("body", "comment", "message", "notes", "note", "description", "desc", "text"),
        "sentence",
        SENTENCES,
    ),
    (("branch", "base", "head", "target", "ref"), "branch", BRANCHES),
    (("repository", "repo"), "repository", REPOSITORIES),
    (("image",), "image", IMAGES),
    (("tag", "version"), "version", TAGS),
    (("label", "labels"), "label", LABELS),
    (("language", "lang"), "language", LANGUAGES),
    (("workflow", "job"), "workflow", WORKFLOWS),
    (("id", "hash", "sha"), "hash", IDS),
    (("publish", "port", "ports"), "ports", PORTS),
    (("volume", "mount"), "mount", MOUNTS),
    (("env", "variable"), "variable", VARIABLES),
    (("filter",), "filter", FILTERS),
    (("since", "until", "date", "day", "before", "after"), "day", DAYS),
    (("driver",), "driver", DRIVERS),
    (("file", "path", "directory", "dir", "folder", "output"), "path", PATHS),
    (("name", "container", "service", "host", "project"), "name", NAMES),
)
_SMALL = tuple(str(number) for number in (2, 3, 4, 5, 7, 8, 10, 12, 15, 20, 25, 40, 50, 100))
_FLOATS = ("0.5", "1.5", "2.5", "0.25", "3.75", "1.2", "4.5", "0.1", "10.5", "7.25")
_NUMBERS = tuple(str(3 + 37 * i % 997) for i in range(90))
_LONG = tuple(str(4_100_000 + 73_911 * i % 5_000_000) for i in range(60))
_COUNTS = ("limit", "max", "count", "copies", "last", "tail", "time", "timeout", "depth", "retries")


def pool(argument: Argument) -> tuple[str, tuple[str, ...]]:
    """Name of a slot and its values, all of them text, for an argument without fixed values."""
    words = argument.name.lower().replace("_", "-").split("-")
    if argument.type == "integer":
        if set(words) & set(_COUNTS):
            return "small", _SMALL
        if words[-1] == "id":
            return "long", _LONG
        if set(words) & {"number", "pr", "issue", "ticket"} or argument.required:
            return "number", _NUMBERS
        return "small", _SMALL
    if argument.type == "float":
        return "decimal", _FLOATS
    if argument.type == "path":
        about = f"{argument.name} {argument.description or ''}".lower()
        if any(word in about for word in ("folder", "directory")):
            return "folder", FOLDERS
        return "path", PATHS
    for names, slot, values in _BY_NAME:
        if words[-1] in names or words[0] in names:
            return slot, values
    return "word", WORDS
