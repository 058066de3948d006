"""The twelve named cases of the regression suite (domain reference, E4)."""

from __future__ import annotations

from tracetune.conversations.classify import policy_of
from tracetune.conversations.options import ClassifierOptions
from tracetune.conversations.parts import record_id
from tracetune.conversations.regression import NamedCase, Priority
from tracetune.conversations.request import Request, read_request
from tracetune.records import Message
from tracetune.records.ctv3 import (
    Checks,
    Ctv3Context,
    Ctv3Input,
    Ctv3Source,
    EvalCase,
    Policy,
    Quality,
    QuestionPolicy,
    Reference,
)

_DIRECT = ("asks_permission", "offers_options", "stalls", "refuses")
_CONFIG = '```python\nTIMEOUT = 30\nRETRIES = 3\nHOST = "localhost"\n```'


def suite() -> list[NamedCase]:
    """The cases, in a fixed order: question policy, format, omission, annoyances, edges."""
    return [
        _case(
            "direct_implementation",
            "question_policy",
            "critical",
            [
                "Write a Python function slugify(title) that lower-cases a title, replaces "
                "everything that is no letter or digit with a hyphen and strips hyphens at both "
                "ends."
            ],
            Checks(expected_behaviors=["returns_code"], disallowed_behaviors=list(_DIRECT)),
        ),
        _case(
            "no_permission_for_edits",
            "question_policy",
            "critical",
            [f"Rename TIMEOUT to TIMEOUT_SECONDS and set it to 45:\n\n{_CONFIG}"],
            Checks(
                expected_behaviors=["returns_code"],
                disallowed_behaviors=list(_DIRECT),
                disallowed_phrases=["would you like me to", "should i", "shall i"],
            ),
        ),
        _case(
            "no_option_spam",
            "question_policy",
            "high",
            ["Write a two sentence apology to a customer whose parcel of 3 May arrived broken."],
            Checks(expected_behaviors=["answers"], disallowed_behaviors=list(_DIRECT)),
        ),
        _case(
            "asks_when_input_is_missing",
            "question_policy",
            "high",
            ["Translate the paragraph into German."],
            Checks(expected_behaviors=["asks_a_question"], must_not_end_with_question=False),
        ),
        _case(
            "json_only",
            "format",
            "critical",
            [
                "Return only JSON: an object with the keys name and port for a service called "
                "billing that listens on 8443."
            ],
            Checks(
                expected_behaviors=["returns_json"],
                disallowed_behaviors=["asks_permission"],
                must_follow_format="json",
            ),
        ),
        _case(
            "numbered_steps",
            "format",
            "high",
            ["Give me a numbered list of five steps to move a PostgreSQL database to a new disk."],
            Checks(
                expected_behaviors=["counts_up"],
                disallowed_behaviors=["asks_permission"],
                must_follow_format="numbered",
            ),
        ),
        _case(
            "no_bullets",
            "format",
            "high",
            ["Explain in prose, without bullets, why a read replica can lag behind its primary."],
            Checks(
                expected_behaviors=["answers"],
                disallowed_behaviors=["uses_bullets", "asks_permission"],
                must_follow_format="no_bullets",
            ),
        ),
        _case(
            "nothing_left_out",
            "omission",
            "critical",
            [
                f"Return the complete file with a comment above every line. Don't omit TIMEOUT, "
                f"RETRIES and HOST:\n\n{_CONFIG}"
            ],
            Checks(
                expected_behaviors=["returns_code"],
                disallowed_behaviors=["omits", "asks_permission"],
            ),
        ),
        _case(
            "told_to_stop_asking",
            "historical_annoyance",
            "critical",
            [
                "Write a bash script backup.sh that copies /etc to /srv/backup.",
                "Would you like me to include a date in the folder name?",
                "Stop asking and just write it. Put the date in the folder name.",
            ],
            Checks(
                expected_behaviors=["returns_code"],
                disallowed_behaviors=list(_DIRECT),
                disallowed_phrases=["would you like", "before i proceed", "let me know if"],
            ),
        ),
        _case(
            "keeps_an_earlier_rule",
            "historical_annoyance",
            "high",
            [
                "From now on never use bullets. What does DNS do?",
                "DNS turns a name such as example.org into the address of a server.",
                "And what does DHCP do?",
            ],
            Checks(
                expected_behaviors=["answers"],
                disallowed_behaviors=["uses_bullets"],
                must_follow_format="no_bullets",
            ),
        ),
        _case(
            "options_were_asked_for",
            "edge",
            "medium",
            [
                "Give me three options for the name of a newsletter about bread. Then ask me which "
                "one I like."
            ],
            Checks(
                expected_behaviors=["answers", "asks_a_question"],
                must_not_end_with_question=False,
            ),
        ),
        _case(
            "quoted_question",
            "edge",
            "medium",
            [
                'Correct the spelling and reply with the sentence only: "Shoud I stay or shoud I '
                'go?" sang the band.'
            ],
            Checks(
                expected_behaviors=["answers"],
                disallowed_behaviors=["asks_permission", "refuses"],
            ),
        ),
    ]


def _policy(request: Request, checks: Checks, options: ClassifierOptions) -> QuestionPolicy:
    """A case that forbids questions says so in its policy too."""
    if checks.must_not_end_with_question:
        return "no_questions"
    return policy_of(request, 0, options)


def _case(
    name: str, category: str, priority: Priority, said: list[str], checks: Checks
) -> NamedCase:
    options = ClassifierOptions()
    request = read_request(said[-1], options, earlier=said[:-1])
    return NamedCase(
        name=name,
        category=category,
        priority=priority,
        case=EvalCase(
            record_id=record_id("eval_case", "suite", name),
            source=Ctv3Source(
                origin="enhancer_agent",
                provider="internal",
                source_id=f"suite:{name}",
                created_at_utc=None,
            ),
            context=Ctv3Context(
                domain=request.domain,
                language=request.language,
                policy=Policy(
                    question_policy=_policy(request, checks, options),
                    directive_completeness=request.completeness,
                    must_not_omit=list(request.must_not_omit),
                    format_constraints=request.constraints,
                ),
            ),
            input=Ctv3Input(
                messages=[
                    Message(role="assistant" if n % 2 else "user", content=text)
                    for n, text in enumerate(said)
                ]
            ),
            quality=Quality(gold=False, weight=0.0, review_status="human_verified"),
            checks=checks,
            reference=Reference(answer=None),
        ),
    )
