"""What a user asks for: how complete it is, in which form, and whether questions are welcome."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tracetune.conversations.options import ClassifierOptions
from tracetune.conversations.phrases import fence_language, fences, normalise
from tracetune.records.ctv3 import Domain, FormatConstraints, TaskType

_LOOK_BACK = 4
"""A request that names no subject has that of the turns before it, as many as this."""
_REMEMBERED = 4_096
"""Earlier turns are looked at again with every later request."""
_LONG = 200
"""A request longer than this holds its input."""
_ITEMS, _ITEM_WORDS = 6, 6

VERBS = (
    "add|adapt|analyse|analyze|annotate|answer|apply|build|calculate|change|check|clean|combine"
    "|comment|compare|complete|compose|compute|convert|correct|count|create|cut|debug|define"
    "|delete|describe|design|document|draft|draw|edit|estimate|evaluate|expand|explain|extend"
    "|extract|fill|find|finish|fix|format|generate|give|group|implement|improve|include|insert"
    "|invent|justify|keep|list|make|merge|move|name|optimise|optimize|order|outline|paraphrase"
    "|plan|port|prepare|print|produce|proofread|propose|prove|provide|rank|refactor|reformat"
    "|remove|rename|reorder|rephrase|replace|reply|return|review|rewrite|run|schedule|send|set"
    "|shorten|show|simplify|sketch|solve|sort|split|suggest|summarise|summarize|switch|tell|test"
    "|tighten|track|translate|trim|turn|update|use|validate|verify|wrap|write"
)
_IMPERATIVE = re.compile(
    r"(?:^|[:.!?\n]\s*|\bplease,?\s+|\b(?:can|could|would) you(?: please| just)?\s+|\bthen\s+"
    r"|^(?:ok|okay|hey|hi|great|thanks|now|and|also|so|next|yes|no)[,!. ]+(?:please\s+|now\s+)?)"
    rf"(?:just\s+)?(?:help me (?:to )?)?(?P<verb>{VERBS})\b"
)
_FORMAT = re.compile(
    r"\b(?:json|yaml|toml|csv|tsv|xml|html|markdown|table|bullets?|numbered(?: list)?"
    r"|diff|patch|code block|regex|one[- ]liner|sql|bash|shell script|dockerfile|docstrings?"
    r"|type hints?|function|class|script|unit tests?|pytest|paragraphs?|haiku|e-?mail|subject line"
    r"|commit message|changelog|checklist|(?:\d+|one|two|three|four|five|six|ten) "
    r"(?:words?|sentences?|lines?|bullets?|steps?|points?|items?|paragraphs?|characters?))\b"
)
_PATH = re.compile(
    r"(?<![\w/.])(?:[\w.-]+/)+[\w.-]+\.\w{1,5}\b|\b[\w-]+\.(?:py|ts|js|rs|go|sql|md"
    r"|ya?ml|json|toml|csv|sh|txt|tf|java|c|cpp|html|css)\b"
)
_TRANSFORM = re.compile(
    r"\b(?:summari[sz]e|translate|rewrite|rephrase|paraphrase|proofread|refactor|convert|reformat"
    r"|shorten|simplify|tighten) (?:(?:up )?(?:this|that|it|these|those|them|my|our)\b"
    r"|(?:the|an?) (?:\w+ )?(?:text|paragraphs?|sentences?|article|notes?|document|e-?mail|letter"
    r"|code|file|function|class|page|report|list|table|abstract|draft|passage|message)\b)"
)
"""Changing something that is pointed at. A topic (the history of the metre) is not missing."""
_GIVEN = re.compile(r":\s*\S.{15,}|[\"“„«][^\"”“»]{15,}[\"”“»]", re.DOTALL)
"""Something to work on: after a colon, or quoted."""
_UNSURE = re.compile(
    r"\b(?:something like|some(?:how| kind of| sort of)|maybe|perhaps|not sure|or something"
    r"|or so|whatever|i guess|kind of|sort of|stuff|i don't know|etc)\b"
)
_VAGUE = re.compile(
    rf"\b(?:{VERBS})\s+(?:it|this|that|these|those|them|the thing|things|stuff)"
    r"(?:\s+(?:up|please|now|for me|better|properly|again|out))*\s*(?:[.!?,;]|$)",
    re.MULTILINE,
)
_OPTIONS_ASKED = re.compile(
    r"\b(?:what are (?:my|the|our) options|(?:give|show|list|suggest|offer)(?: me| us)?"
    r"(?: \w+){0,3} (?:options|alternatives|choices|variants|approaches|ideas|possibilities)"
    r"|(?:options|alternatives|choices|ideas) (?:for|to)|pros and cons|brainstorm"
    r"|which (?:one|of (?:these|them)|option|approach|is better|would you|should (?:i|we))"
    r"|what would you (?:recommend|suggest)|ask me (?:\w+ ){0,4}(?:questions?|first|if|whatever)"
    r"|feel free to ask|any questions)\b"
)
_NO_QUESTIONS = re.compile(r"\b(?:no|without|don't ask(?: me)?(?: any)?|stop asking) questions\b")

_STICKY = re.compile(
    r"\b(?:from now on|always|never|in future|going forward|every time|stop using)\b"
)
_NO_BULLETS = re.compile(
    r"\b(?:no|without|never use|don't use|do not use|stop using|avoid)(?: any)?(?: more)? "
    r"(?:bullets?|bullet[- ]points?|bulleted lists?|lists?)\b"
    r"|\b(?:as|in) (?:plain |flowing )?prose\b"
)
_NUMBERED = re.compile(
    r"\bnumbered\b|\bnumber (?:them|the|each|every)\b|\bstep[- ]by[- ]step list\b"
)
_CODE_ASKED = re.compile(
    r"\b(?:only|just)(?: the)? code\b"
    r"|\b(?:write|implement|create|generate|build|give me|add|show me)\b[^.?!\n]{0,60}\b"
    r"(?:function|script|class|method|query|regex|dockerfile|makefile|unit tests?|pytest|code"
    r"|migration|decorator|one[- ]liner|cron line|workflow)\b"
)
_DIFF_ASKED = re.compile(
    r"\b(?:unified |git )?diff\b(?! between)|\bas a patch\b|\bpatch (?:file|for)\b"
)
_JSON_ASKED = re.compile(
    r"\b(?:as|in|return|output|only|valid|strict|give me|into|to)(?: \w+){0,2} json\b"
    r"|\bjson (?:only|object|array|please)\b"
)
_NOT = re.compile(r"\b(?:no|not|without|don't (?:use|give me|return)|instead of)\s+(?:a |any )?$")

_KEEP_ALL = re.compile(
    r"\b(?:don't|do not|never|must not|without)\s+(?:omit|skip|leave out|drop|omitting|skipping"
    r"|leaving out|dropping)\s+(?P<a>[^.?!;\n]+)"
    r"|\b(?:include|including|must (?:contain|include|mention|cover)"
    r"|make sure to (?:include|mention|cover)|cover|mention)\s+(?P<b>[^.?!;\n]+)"
)
_ALL_OF = re.compile(r"\b(?:the )?(?:full|complete|entire|whole) (?P<noun>\w+)")
_ITEM_SPLIT = re.compile(r",(?!\d)\s*(?:and\s+)?|\s+and\s+|\s+plus\s+")
_ITEM_START = re.compile(
    r"^(?:include |including |mention |cover )?"
    r"(?:the|a|an|all|any|both|some|also|its|your|my|in it)\s+"
)

_PRONOUNS = frozenset({"it", "this", "that", "them", "these", "those", "anything", "everything"})

_CODE_WORDS = re.compile(
    r"\b(?:code|function|class|script|bug|stack ?trace|traceback|exception|compile|python|rust"
    r"|typescript|javascript|java|golang|sql|query|regex|api|endpoint|unit tests?|pytest|refactor"
    r"|repo|git|commit|branch|dockerfile|variable|loop|parser|schema|migration|css|html|bash|cli)\b"
)
_OPS_WORDS = re.compile(
    r"\b(?:deploy|deployment|server|kubernetes|docker|nginx|cron|backup|monitoring|alert|outage"
    r"|incident|certificate|dns|disk|logs?|terraform|ansible|systemd|rollback|on-?call|latency)\b"
)
_PLAN_WORDS = re.compile(
    r"\b(?:plan|schedule|roadmap|milestones?|agenda|itinerary|timeline|budget|priorit\w+|backlog"
    r"|sprint|trip|meeting|week|checklist)\b"
)
_RESEARCH_WORDS = re.compile(
    r"\b(?:paper|study|studies|literature|evidence|research|sources?|survey|compare|comparison"
    r"|explain|theory|history of|difference between|summari[sz]e|statistics?|hypothesis)\b"
)
_TASKS: tuple[tuple[TaskType, str], ...] = (
    (
        "test",
        r"\b(?:write|add|generate|create) (?:\w+ ){0,3}?(?:unit |integration )?tests?\b"
        r"(?! (?:this|that|whether))",
    ),
    (
        "refactor",
        r"\brefactor\b|\bclean up\b|\bsimplify the code\b|\bextract\b.{0,30}\b(?:function|class)\b",
    ),
    (
        "debug",
        r"\bdebug\b|\bfix\b|\bbug\b|\btraceback\b|\berror\b|\bwhy (?:does|is|do)\b.{0,60}"
        r"\b(?:fail|crash|slow|hang|wrong|break)\w*",
    ),
    (
        "rewrite",
        r"\b(?:rewrite|rephrase|paraphrase|shorten|proofread|translate|reformat|convert"
        r"|edit|tighten|trim|summari[sz]e)\b",
    ),
    ("explain", r"\b(?:explain|describe|what (?:is|are|does)|how (?:does|do|is)|why)\b"),
    ("evaluate", r"\b(?:review|evaluate|compare|assess|rate|check|critique|rank|pros and cons)\b"),
    ("design", r"\b(?:design|plan|outline|architect|propose|sketch|schedule|roadmap|itinerary)\b"),
    ("complete", r"\b(?:complete|finish|continue|go on|carry on|fill in)\b"),
    ("implement", r"\b(?:implement|create|write|generate|build|add|make|code|draft|set up)\b"),
)


_MAKING = frozenset(
    {"implement", "create", "write", "generate", "build", "add", "make", "compose", "draft"}
)
_TASK_VERBS: dict[TaskType, frozenset[str]] = {
    "refactor": frozenset({"refactor"}),
    "debug": frozenset({"debug", "fix", "solve"}),
    "explain": frozenset({"explain", "describe"}),
    "evaluate": frozenset({"review", "evaluate", "compare", "rank", "check", "estimate"}),
    "design": frozenset({"design", "plan", "outline", "sketch", "schedule"}),
    "complete": frozenset({"complete", "finish"}),
    "rewrite": frozenset(
        {
            *("rewrite", "rephrase", "paraphrase", "shorten", "proofread", "translate"),
            *("reformat", "convert", "edit", "tighten", "trim", "summarise", "summarize"),
        }
    ),
}


def command_in(text: str) -> str | None:
    """A request from its first commanding verb on, in lower case; None if nothing is commanded."""
    lower = text.lower()
    found = _IMPERATIVE.search(lower)
    return lower[found.start("verb") :] if found else None


@dataclass(frozen=True)
class Request:
    """What is known of one request.

    Attributes:
        completeness: How completely it says what is wanted, 0 to 1 (at most .80).
        blocked: How much is in the way of answering at once; 0: nothing.
        imperative: The verb that commands, if there is one.
        names_format: Whether a form of the answer is named.
        has_input: Whether the request itself holds what it is about.
        missing_input: Whether something is to be transformed that was never given.
        vague: Whether it only points: fix this.
        unsure: Whether the wording is uncertain: something like, maybe.
        wants_options: Whether the user asked for options or questions.
        constraints: Form that the answer must have.
        must_not_omit: What the answer has to hold.
        domain: What it is about.
        task_type: What kind of work it is.
        wants_code: Whether the answer should hold code.
        language: Language of code that the exchange names; ``text`` if none.
    """

    completeness: float
    blocked: int
    imperative: str | None
    names_format: bool
    has_input: bool
    missing_input: bool
    vague: bool
    unsure: bool
    wants_options: bool
    constraints: FormatConstraints
    must_not_omit: tuple[str, ...]
    domain: Domain
    task_type: TaskType
    wants_code: bool
    language: str


def read_request(
    text: str,
    options: ClassifierOptions,
    *,
    earlier: Sequence[str] = (),
    attachments: bool = False,
    answer: str = "",
) -> Request:
    """Reads a request.

    Args:
        text: What the user says.
        options: Thresholds.
        earlier: What was said before it by anybody; input given there is not missing here.
        attachments: Whether files came with it.
        answer: The answer, which may name the language of its code.
    """
    normal = normalise(text, options.quote_chars)
    own_input = bool(fences(text) or _PATH.search(text) or len(text) > _LONG or attachments)
    given = own_input or bool(_GIVEN.search(text))
    known_input = given or any(_holds_input(said) for said in earlier)
    verb = _IMPERATIVE.search(normal.strip())
    names_format = bool(_FORMAT.search(normal))
    missing = bool(_TRANSFORM.search(normal)) and not known_input
    unsure = bool(_UNSURE.search(normal))
    completeness = 0.35 * bool(verb) + 0.25 * names_format + 0.20 * own_input
    completeness = min(max(completeness - 0.40 * missing - 0.20 * unsure, 0.0), 1.0)
    fenced = bool(fences(text)) or any(_holds_fence(said) for said in earlier)
    vague = bool(_VAGUE.search(normal)) and not fenced
    wants_options = bool(_OPTIONS_ASKED.search(normal)) and not _NO_QUESTIONS.search(normal)
    blocked = 0 if completeness >= options.complete_from else 1
    blocked += completeness < options.unclear_below
    blocked += 3 * missing + 2 * vague - names_format - 2 * wants_options
    constraints = _constraints(normal, [normalise(said) for said in earlier])
    domain = _domain(normal, bool(fences(text)) or bool(_PATH.search(text)))
    for said in reversed(earlier[-_LOOK_BACK:]):
        if domain is not None:
            break
        domain = _domain(normalise(said), bool(fences(said)))
    domain = domain or "mixed"
    task = _task_of(normal, verb["verb"] if verb else "")
    wants_code = constraints.must_return_code or (
        domain == "code" and task in ("implement", "test", "refactor")
    )
    return Request(
        completeness=round(completeness, 2),
        blocked=max(blocked, 0),
        imperative=verb["verb"] if verb else None,
        names_format=names_format,
        has_input=own_input,
        missing_input=missing,
        vague=vague,
        unsure=unsure,
        wants_options=wants_options,
        constraints=constraints,
        must_not_omit=_must_not_omit(normal),
        domain=domain,
        task_type=task,
        wants_code=wants_code,
        language=_language(text, answer),
    )


@lru_cache(maxsize=_REMEMBERED)
def _holds_input(said: str) -> bool:
    return bool(fences(said) or _PATH.search(said) or len(said) > _LONG)


@lru_cache(maxsize=_REMEMBERED)
def _holds_fence(said: str) -> bool:
    return bool(fences(said))


def _task_of(normal: str, verb: str) -> TaskType:
    """The kind of work: what the commanding verb says, or else what the words say."""
    if verb in _MAKING and re.search(_TASKS[0][1], normal):
        return "test"
    if verb in _MAKING:
        return "implement"
    for name, verbs in _TASK_VERBS.items():
        if verb in verbs:
            return name
    return next((name for name, pattern in _TASKS if re.search(pattern, normal)), "respond")


def _constraints(normal: str, earlier: Sequence[str]) -> FormatConstraints:
    """The form asked for here, and what was ruled out for good before."""
    lasting = [said for said in earlier if _STICKY.search(said)]
    return FormatConstraints(
        forbid_bullets=any(_NO_BULLETS.search(said) for said in (normal, *lasting)),
        require_numbered=_asked(_NUMBERED, normal),
        must_return_code=_asked(_CODE_ASKED, normal),
        must_return_diff=_asked(_DIFF_ASKED, normal),
        must_return_json=_asked(_JSON_ASKED, normal),
    )


def _asked(pattern: re.Pattern[str], normal: str) -> bool:
    return any(not _NOT.search(normal[: match.start()]) for match in pattern.finditer(normal))


def _must_not_omit(normal: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for match in _KEEP_ALL.finditer(normal):
        for part in _ITEM_SPLIT.split(match["a"] or match["b"]):
            item = _ITEM_START.sub("", part.strip(" ,:'\"()"))
            if item in _PRONOUNS:
                continue
            if item and len(item.split()) <= _ITEM_WORDS and re.search(r"\w{3}", item):
                found[item] = None
    if not found:
        found |= {f"the whole {match['noun']}": None for match in _ALL_OF.finditer(normal)}
    return tuple(found)[:_ITEMS]


def _domain(normal: str, holds_code: bool) -> Domain | None:
    """What a text is about: ``mixed`` if several fit alike, None if nothing says so."""
    scores: list[tuple[int, Domain]] = [
        (2 * holds_code + len(set(_CODE_WORDS.findall(normal))), "code"),
        (len(set(_OPS_WORDS.findall(normal))), "ops"),
        (len(set(_PLAN_WORDS.findall(normal))), "planning"),
        (len(set(_RESEARCH_WORDS.findall(normal))), "research"),
    ]
    best = max(score for score, _ in scores)
    leaders = [name for score, name in scores if score == best]
    if not best:
        return None
    return leaders[0] if len(leaders) == 1 else "mixed"


def _language(text: str, answer: str) -> str:
    for fence in (*fences(text), *fences(answer)):
        name = fence_language(fence)
        if name:
            return name
    return "text"
