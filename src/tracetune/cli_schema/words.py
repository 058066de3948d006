"""How people say arguments and flags, and how they open and end a request.

Material of the offline generator. Nothing here is needed for a program with other words: they come
from its own names, descriptions and hints then.
"""

from __future__ import annotations

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "author": ("by {v}", "from {v}", "opened by {v}", "written by {v}", "that {v} opened"),
    "assignee": ("assigned to {v}", "with {v} as assignee", "that {v} takes care of"),
    "reviewer": ("with {v} as reviewer", "and ask {v} for a review", "for {v} to review"),
    "label": ("labeled {v}", "with the label {v}", "that has the label {v}"),
    "limit": ("but only {v}", "at most {v}", "no more than {v}", "limited to {v}", "max {v}"),
    "title": ('titled "{v}"', 'called "{v}"', 'with the title "{v}"', 'with "{v}" as title'),
    "body": ('saying "{v}"', 'with the text "{v}"', 'that says "{v}"', 'with "{v}" in it'),
    "comment": ('with the comment "{v}"', 'and say "{v}"', 'leaving the note "{v}"'),
    "message": ('saying "{v}"', 'with the message "{v}"'),
    "notes": ('with the notes "{v}"', 'and write "{v}" into the notes'),
    "description": ('described as "{v}"', 'with the description "{v}"', 'about "{v}"'),
    "desc": ('described as "{v}"', 'with the description "{v}"', 'about "{v}"'),
    "base": ("into {v}", "against {v}", "targeting {v}", "with {v} as base"),
    "head": ("from {v}", "from the branch {v}", "with the changes of {v}"),
    "branch": ("on {v}", "on the branch {v}", "for branch {v}"),
    "target": ("from the branch {v}", "targeting {v}", "off {v}"),
    "workflow": ("of the workflow {v}", "for {v}", "of {v}"),
    "language": ("in {v}", "written in {v}", "that use {v}"),
    "directory": ("into {v}", "into the folder {v}", "in the directory {v}"),
    "file": ("from {v}", "from the file {v}", "with the file {v}", "using {v}"),
    "path": ("in {v}", "under {v}", "at {v}"),
    "name": ("named {v}", "called {v}", "with the name {v}"),
    "tag": ("tagged {v}", "with the tag {v}", "and tag it {v}"),
    "publish": ("on port {v}", "with {v} published", "exposing {v}"),
    "volume": ("with {v} mounted", "mounting {v}", "with the volume {v}"),
    "env": ("with {v} set", "with the variable {v}", "with {v} in the environment"),
    "cpus": ("with {v} cpus", "on {v} processors", "using {v} cores"),
    "since": ("since {v}", "newer than {v}", "from {v} on"),
    "tail": ("but only the last {v} lines", "the last {v} lines", "from the final {v} lines"),
    "last": ("only the last {v}", "just the {v} newest", "the latest {v}"),
    "time": ("after {v} seconds", "waiting {v} seconds", "within {v} seconds"),
    "filter": ("filtered by {v}", "matching {v}", "where {v}"),
    "owner": ("of {v}", "owned by {v}", "that belong to {v}"),
    "depth": ("with a depth of {v}", "but only {v} commits deep", "with the last {v} commits"),
    "query": ('matching "{v}"', 'for "{v}"'),
}
"""Names of arguments → ways of saying a value."""

NUMBERS = ("limit", "cpus", "last", "tail", "time", "depth")
"""Those of them that speak of numbers."""

GENERIC_ARGUMENT = (
    "with {words} {v}",
    "with {v} as {words}",
    "with the {words} {v}",
    "and set the {words} to {v}",
    "{words} {v}",
)
PRECISE_ARGUMENT = (
    "with {words} {v}",
    "with the {words} set to {v}",
    "where the {words} is {v}",
    "using {words} = {v}",
)

FLAGS: dict[str, tuple[str, ...]] = {
    "web": ("in the browser", "in my browser", "on the website", "in a browser tab"),
    "draft": ("as a draft", "in draft mode", "as draft"),
    "force": ("by force", "no matter what", "with force"),
    "verbose": ("with all details", "verbosely"),
    "dry-run": ("as a dry run", "without really doing it"),
    "recursive": ("with everything below it", "recursively"),
}
"""Names of flags → ways of saying them."""

CASUAL_OPENINGS = (
    "",
    "hey, ",
    "hey can you ",
    "can you ",
    "could you ",
    "can u ",
    "pls ",
    "ok, ",
    "yo, ",
    "just ",
    "i wanna ",
    "i need to ",
    "gotta ",
    "quick, ",
    "lets ",
    "would be nice to ",
    "time to ",
    "alright, ",
    "any chance you could ",
)
CASUAL_ENDINGS = ("", "", "", " pls", " please", " thx", " real quick", " for me", " now", " ok?")
POLITE_OPENINGS = (
    "",
    "",
    "please ",
    "could you please ",
    "I would like to ",
    "I want to ",
    "would you ",
    "I have to ",
    "help me ",
    "my next step is to ",
    "it is time to ",
)
PRECISE_OPENINGS = ("", "", "", "please ", "I request that you ")

AMBIGUOUS_GROUP = (
    "something with {ns}",
    "{ns}",
    "do something about the {n}",
    "I need help with my {ns}",
    "{n} stuff",
    "can you do the {n} thing",
    "handle the {ns}",
    "what about the {n}",
    "take care of the {ns} for me",
    "I have a question about {ns}",
    "sort out the {n} please",
    "deal with the {n}",
    "the {n}, please",
    "{ns}!",
    "it is about a {n}",
    "could you help with a {n}",
    "work on the {ns}",
    "let us do the {ns} now",
    "I am not sure what to do with this {n}",
    "next: {ns}",
)
AMBIGUOUS_OBJECTS = (
    "it",
    "that",
    "the thing",
    "that one",
    "everything",
    "one of those",
    "the last one",
    "the other one",
    "something",
    "what I said before",
    "the usual",
    "those",
    "the one from yesterday",
    "mine",
)
UNCLEAR = (
    "help",
    "do the thing",
    "you know what to do",
    "the usual please",
    "can you help me",
    "go ahead",
    "do it again",
    "same as yesterday",
    "I need something",
    "make it work",
    "fix it",
    "next one",
)
