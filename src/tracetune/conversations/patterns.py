"""Twelve patterns of a turn, told by rules on its text (reference design D3); English only.

The rules are frozen before anything is trained: :data:`RULES_VERSION` is a hash of them that stands
in the training rows, in the heads and in the report. They say what stands in the words. How well
that agrees with a person's reading is measured on labelled turns (``docs/heads.md``).
"""

from __future__ import annotations

import re

from tracetune.files import sha256_json
from tracetune.records.heads import PATTERNS, Pattern

MEANINGS: dict[Pattern, str] = {
    "directive": "tells the reader to do something: a request or an instruction",
    "clarifying_question": "asks what the other one wants, means or has",
    "step_by_step": "gives steps in their order, or asks for them",
    "code_production": "writes a block of code (data such as JSON is none)",
    "debugging": "deals with an error or a fault: reports it, finds its cause, repairs it",
    "comparison": "weighs things against one another, or asks for that",
    "refinement": "changes or corrects what was given before, or asks for that",
    "summarising": "makes something shorter, or asks for that",
    "planning": "sets out what is to be done and when, or asks for that",
    "explanation_with_example": "explains how or why, and shows it on a case",
    "delegation": "hands a task to somebody other than the two who talk",
    "reflection": "looks back at what was done and judges it",
}
"""What a person who labels turns goes by."""

_VERBS = (
    "add|allow|answer|apply|assume|avoid|be|book|build|calculate|call|change|check|choose|collect|"
    "compare|compute|consider|convert|copy|correct|count|create|cut|define|delete|describe|design|"
    "do|don't|do not|draft|drop|estimate|explain|find|fix|follow|format|generate|get|give|go|hand|"
    "implement|improve|include|install|keep|leave|let|list|look|lower|make|mention|move|name|never|"
    "open|outline|pick|plan|point|point out|print|propose|provide|put|raise|read|redirect|refactor|"
    "remove|rename|reply|return|review|rewrite|ring|run|send|set|shorten|show|start|stop|strip|"
    "suggest|summarise|summarize|swap|switch|take|tell|test|translate|treat|try|turn|update|use|"
    "verify|wait|watch|write"
)
# No repetition is open: a turn may hold a whole file, and the search would cost the square of its
# length. White space is folded before.
_REST = r"[^.!?\n]{0,300}"
_BEGIN = r"(?:^|[.!?:;]\s+|\n\s*(?:[-*]|\d{1,9}[.)])?\s*|,\s*(?:and |then |please |just )?)"
_DIRECTIVE = (
    rf"{_BEGIN}(?:ok[.,]? )?(?:and |now |then |also |so |please |just |always |never )*"
    rf"(?:{_VERBS})\b(?! (?:is|was|are|were|you|i|we|they)\b)",
    r"\bplease\b(?! (?:confirm|clarify))",
    r"\bi(?: want| would like|'d like) (?:you to|the|a|an|it|this|that|to have)\b",
    r"\bi need you to\b",
    r"\b(?:can|could) you (?:please )?(?!clarify|confirm|provide|tell)\w+",
)
_ASK = (
    rf"\b(?:do|did|would|could|can|are|have|should|will) you\b{_REST}\?",
    rf"\b(?:what|which|how|where|when|who|why)\b(?={_REST}\byou(?:r)?\b){_REST}\?",
    rf"\bwhich (?:one|of (?:them|these|those)|approach|option|version)\b{_REST}\?",
    r"\b(?:should|shall|may|can) (?:i|we)\b(?: also| just)? "
    rf"(?:include|add|start|rename|go|use|take|write|proceed|make|turn|keep|assume|do)\b{_REST}\?",
    r"\b(?:to make sure i understand|to help you better|just to clarify|before i proceed|"
    r"what exactly do you mean|please confirm|i need (?:a bit )?more (?:information|context)|"
    r"let me know (?:if|whether|which))\b",
)
_STEPS = (
    r"(?:^|\n)\s*1[.)] [^\n]+\n(?:[^\n]*\n){0,100}?\s*2[.)] ",
    r"\bstep[- ]by[- ]step\b",
    r"\b(?:the )?steps (?:to|for|of|that|i|we|you|how)\b|\bgive me the steps\b|\bsteps as\b",
    r"\bfirst(?:ly)?,? [^.\n]{0,300}[.;,]\s*(?:and )?"
    r"(?:then|second(?:ly)?|next|after(?:wards| that))\b",
)
_FAULT = (
    r"\b(?:error|errors|exception|traceback|stack ?trace|bug|bugs|crash(?:es|ed)?|segfault|"
    r"panics?|fault|incident|outage|postmortem|rollback)\b",
    r"\b(?:fail(?:s|ed|ing|ure)?|broke|dies|hangs?|times? ?out|timed out|timeout|loop for ?ever)\b",
    r"(?:error|exception)\b\s*[\[:(]",
    r"\b(?:fix|debug|repair|diagnose)\b(?: the| this| it| that)",
    r"\b(?:insufficient memory|disk (?:is )?full|\d+ ?% disk|pending:|off by one|one step too far|"
    r"could not reach|does(?:n't| not) work|what(?:'s| is) going on|50[0-9] for)\b",
)
_COMPARE = (
    r"\bcompar(?:e|es|ed|ing|ison)\b",
    r"\b(?:versus|vs\.?|pros and cons|trade-?offs?|alternatives? to|on the other hand|whereas)\b",
    r"\b(?:better|faster|cheaper|larger|smaller|easier|slower|heavier|lighter|more \w+|less \w+) "
    r"than\b",
    r"\bwhich (?:is|are|would|one|of (?:the|them|these)|do)\b[^.?!\n]{0,300}"
    r"\b(?:better|best|take|use|choose|recommend|prefer)\b",
    r"\b(?:what are (?:the|my) options|options for|i would take|if you only want one)\b",
    r"\bif [^.;\n]{3,80}, (?:take|use|choose)\b[^.\n]{0,300}[;.] (?:if|otherwise|else)\b",
)
_REFINE = (
    r"\b(?:instead|in place of that|try again|once more|not what i asked|i meant|"
    r"i said|i already told you|as i mentioned|that(?:'s| is) wrong|actually,)",
    r"\b(?:too|bit|little|more|less|much) (?:long|short|formal|friendl\w+|simple|casual|detailed|"
    r"verbose|shorter|longer|warmer|simpler)\b",
    r"\b(?:shorter|longer|friendlier|warmer|simpler|shorten (?:it|this|that|the))\b",
    r"\b(?:change|swap|replace|adjust|tweak|reword|rephrase|extend) (?:the|it|this|that|\w+ only|"
    r"\w+ \w+ (?:for|with|to))\b|\bchange \w+ only\b",
    r"(?:^|\n|[.!?] )(?:ok\W+|good\W+|better\W+|nice\W+)?(?:now|and|also|but) "
    r"(?:add|make|with|without|allow|the|delete|in|write)\b",
    r"(?:^|[.!?] )(?:make it|allow|add) ",
    r"\b(?:stop|you keep|don't keep|don't) (?:asking|ask|adding|doing)\b|\byou keep \w+ing\b",
    r"^(?:sorry|understood|you're right|you are right|fair point|my mistake)\b",
    r"\bcan it be done (?:without|with)\b|\b(?:only please|please only)\b",
    r"\bone more (?:in|like|of)\b|\bnothing else changes\b",
)
_SUMMARY = (
    r"\bsummar(?:y|ies|ise|ize|ised|ized|ising|izing)\b",
    r"\b(?:shorten|condense|abridge|tl;?dr|in short|to sum up|in a nutshell|key points|sum up)\b",
)
_PLAN = (
    r"\b(?:plan|plans|planning|agenda|schedule|timeline|itinerary|roadmap|checklist|milestones?|"
    r"outline|menu|sprint|backlog|runbook)\b",
    r"\bweeks? \d|\b(?:one|two|three|four|six|eight|twelve) weeks? before\b",
    r"\|\s*(?:morning|afternoon|evening|monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b",
    r"(?:^|\n)\s*(?:\d+[.)]|[-*])\s*(?:monday|tuesday|wednesday|thursday|friday|day \d)\b",
)
_EXPLAIN = (
    r"\b(?:because|since|so that|which means|that means|this means|the reason|that is why|"
    r"this is why|therefore|means that|in other words|, so |(?:runs|holds|builds|happens) once)\b"
)
_EXAMPLE = (
    r"\b(?:for example|for instance|e\.g\.|such as|as in|say,|imagine|suppose|take the case|"
    r"an example|examples?:)|: an? [^.:\n]{1,100}, an? [^.:\n]{1,100},? or an? "
)
_CODE_AS_EXAMPLE = r"\b(?:is a|are|means|called|defined as|here the)\b"
_DELEGATE = (
    r"\b(?:delegat\w+|hand (?:it|this|that|them) (?:over|off)|"
    r"assign(?:ed|s)? (?:it |this |them )?to|escalat\w+ to|take over from|report(?:s)? to)\b",
    r"\b(?:ask|tell|let|have|get|urgent things to) "
    r"(?:mr |mrs |ms |dr )?(?-i:[A-Z][a-z]+)\b",
    r"(?-i:\b[A-Z][a-z]{2,}) (?:will|shows|takes care|is responsible|is to|has to|takes|owns)\b",
    r"\b(?:somebody|someone) (?:else )?(?:should|has to|will|must) \w+",
    r"\bwho (?:tells|does|takes|owns)\b",
)
_REFLECT = (
    r"\b(?:in hindsight|looking back|in retrospect|retrospective|postmortem|lessons? learned|"
    r"what i would do|would have been better|on second thoughts?|i realise|i realize)\b",
    r"\b(?:i|we) (?:was|were) (?:wrong|mistaken)\b|\b(?:i|we) should(?:n't| not)? have\b",
    r"\b(?:what (?:went|got) (?:well|wrong|worse|better))\b|\bthe mistake was\b|\bmy mistake\b",
    r"\b(?:sorry|apolog(?:y|ise|ize))\b[^.\n]{0,40}(?:that|about|for)\b",
    r"\bwhat we (?:learned|measured|had)\b|\b(?:it|this|that) (?:made me|taught me)\b",
)

RULES: dict[Pattern, tuple[str, ...]] = {
    "directive": _DIRECTIVE,
    "clarifying_question": _ASK,
    "step_by_step": _STEPS,
    "code_production": (),
    "debugging": _FAULT,
    "comparison": _COMPARE,
    "refinement": _REFINE,
    "summarising": _SUMMARY,
    "planning": _PLAN,
    "explanation_with_example": (_EXPLAIN, _EXAMPLE, _CODE_AS_EXAMPLE),
    "delegation": _DELEGATE,
    "reflection": _REFLECT,
}
"""Regular expressions by pattern, on the text without code and long quotations."""
DATA_LANGUAGES = ("json", "csv", "text", "txt", "markdown", "md", "output")
"""Languages of blocks that hold data or text, not code."""

_COMPILED = {
    name: tuple(re.compile(rule, re.IGNORECASE) for rule in rules) for name, rules in RULES.items()
}
_BLOCK = re.compile(r"(?:^|\n)[ \t]*(`{3,}+|~{3,}+)([^\n`]*)\n(.*?)(?:\n[ \t]*\1|\Z)", re.DOTALL)
_INLINE = re.compile(r"`[^`\n]+`")
_QUOTED = re.compile(r"[\"“„«][^\"“”„«»\n]{20,}[\"”“»]")
_WHITE = re.compile(r"\s+")

_READING = [rule.pattern for rule in (_BLOCK, _INLINE, _QUOTED, _WHITE)]
RULES_VERSION = sha256_json([list(PATTERNS), RULES, list(DATA_LANGUAGES), _READING])[:12]
"""Changes with any rule, and with what is taken for words."""


def patterns_of(text: str) -> list[bool]:
    """Which of :data:`~tracetune.records.heads.PATTERNS` a turn shows, by the rules.

    Args:
        text: What was said. Nothing else decides: not the role, nor the turns around it.
    """
    blocks = [(match[2].strip().lower(), match[3]) for match in _BLOCK.finditer(text)]
    words = _plain(text)
    found = {name: any(rule.search(words) for rule in rules) for name, rules in _COMPILED.items()}
    code = any(body.strip() and language not in DATA_LANGUAGES for language, body in blocks)
    found["code_production"] = code
    found["explanation_with_example"] = _explains(words, code=code)
    return [found[name] for name in PATTERNS]


def support(labels: list[list[bool]]) -> dict[Pattern, int]:
    """How many turns show each pattern."""
    return {name: sum(row[place] for row in labels) for place, name in enumerate(PATTERNS)}


def _explains(words: str, *, code: bool) -> bool:
    """An explanation with an example in words, or a definition with code as its example."""
    explains, example, defines = _COMPILED["explanation_with_example"]
    if explains.search(words) and example.search(words):
        return True
    return bool(code and defines.search(words) and len(words.split()) >= 20)


def _plain(text: str) -> str:
    """The words of a turn: no blocks of code, no code in the line, no long quotations.

    White space is folded: of a line end with what is around it one line end stays.
    """
    words = _QUOTED.sub(" ", _INLINE.sub(" x ", _BLOCK.sub("\n", text))).replace("’", "'").strip()
    return _WHITE.sub(lambda found: "\n" if "\n" in found[0] else found[0][0], words)
