"""The Ollama ``Modelfile``, whose template is proved to write what the chat template writes.

Ollama writes prompts with Go's templates and not with Jinja. A small set of them is known here; one
is taken only if, over a set of conversations, it gives the prompts of the Hugging Face template
character by character. Otherwise there is no ``Modelfile``: no template is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetune.export.runtime import check_magic

Messages = Sequence[Mapping[str, str]]

_RANGE, _END = "{{ range .Messages }}", "{{ end }}"
TEMPLATES = {
    "chatml": (
        f"{_RANGE}<|im_start|>{{{{ .Role }}}}\n{{{{ .Content }}}}<|im_end|>\n"
        f"{_END}<|im_start|>assistant\n"
    ),
    "llama3": (
        f"{_RANGE}<|start_header_id|>{{{{ .Role }}}}<|end_header_id|>\n\n"
        f"{{{{ .Content }}}}<|eot_id|>{_END}<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
}
"""Go templates by family, without the beginning of the sequence."""

CONVERSATIONS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "Where is my invoice?"}],
    [
        {"role": "system", "content": "Answer in JSON."},
        {"role": "user", "content": "Book {{ it }}"},
    ],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Grüße, 你好 👩🏽‍💻\n\nand\ta tab"},
    ],
    [
        {"role": "system", "content": "Two\nlines."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": '{"b": 1}'},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
        {"role": "user", "content": "e"},
    ],
)
_BLANKS = [{"role": "user", "content": "  blanks around  \n"}]


@dataclass(frozen=True)
class Modelfile:
    """A ``Modelfile``, or why there is none.

    Attributes:
        text: Its text; None if there is none.
        family: Name of the Go template.
        reason: Why there is none.
        notes: What a user of Ollama should know.
    """

    text: str | None
    family: str | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()


def render_go(template: str, messages: Messages) -> str:
    """What Go's template engine writes, for the few actions that :data:`TEMPLATES` use.

    Args:
        template: Text around one ``{{ range .Messages }} … {{ end }}`` with ``{{ .Role }}`` and
            ``{{ .Content }}`` in it.
        messages: The conversation.

    Raises:
        ValueError: The template has another action.
    """
    before, begin, rest = template.partition(_RANGE)
    body, end, after = rest.partition(_END)
    if not begin or not end or "{{" in before + after:
        raise ValueError(f"not one loop over the messages: {template!r}")

    def turn(message: Mapping[str, str]) -> str:
        fields = {".Role": message["role"], ".Content": message["content"]}

        def value(found: re.Match[str]) -> str:
            if found[1] not in fields:
                raise ValueError(f"the action {found[0]!r} is not known")
            return fields[found[1]]

        return re.sub(r"\{\{ ?(.*?) ?\}\}", value, body)

    return before + "".join(map(turn, messages)) + after


def write(
    gguf: Path,
    tokenizer: Any,
    *,
    instruction: str | None,
    context: int,
    end: str,
    add_bos: bool,
) -> Modelfile:
    """The ``Modelfile`` of a GGUF file that lies beside it.

    Args:
        gguf: The file.
        tokenizer: The Hugging Face tokenizer with the chat template.
        instruction: System turn of the release, if it has one.
        context: Longest conversation in tokens.
        end: The token that ends a turn.
        add_bos: Whether the runtime itself writes the beginning of a sequence.

    Raises:
        DataError: ``gguf`` is no GGUF file.
    """
    check_magic(gguf)
    system = instruction or _default_system(tokenizer)
    found = _family(tokenizer, system, add_bos)
    if found is None:
        known = " and ".join(TEMPLATES)
        reason = f"the chat template is none of those known in Go's syntax ({known})"
        return Modelfile(None, reason=reason)
    if '"""' in (system or ""):
        return Modelfile(
            None, reason='the instruction has """ in it, which a Modelfile cannot hold'
        )
    family, template = found
    notes = []
    if not _same(tokenizer, template, system, add_bos, [_BLANKS]):
        notes.append("the model's own template removes blanks around a turn, Ollama keeps them")
    lines = [f"FROM ./{gguf.name}", f'TEMPLATE """{template}"""']
    if system:
        lines.append(f'SYSTEM """{system}"""')
    lines += ["PARAMETER temperature 0", f"PARAMETER num_ctx {context}", f'PARAMETER stop "{end}"']
    return Modelfile("\n".join(lines) + "\n", family=family, notes=tuple(notes))


def _family(tokenizer: Any, system: str | None, add_bos: bool) -> tuple[str, str] | None:
    """The first template that writes the same prompts, with what it needs before them."""
    bos = tokenizer.bos_token or ""
    for family, template in TEMPLATES.items():
        for start in dict.fromkeys(("", bos)):
            if _same(tokenizer, start + template, system, add_bos, CONVERSATIONS):
                return family, start + template
    return None


def _same(
    tokenizer: Any, template: str, system: str | None, add_bos: bool, talks: Sequence[Messages]
) -> bool:
    from jinja2 import TemplateError

    for messages in talks:
        # Ollama puts the SYSTEM of the Modelfile before a conversation without one.
        if system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        try:
            theirs: str = tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except TemplateError:
            return False
        if add_bos and tokenizer.bos_token:
            theirs = theirs.removeprefix(tokenizer.bos_token)
        if render_go(template, messages) != theirs:
            return False
    return True


def _default_system(tokenizer: Any) -> str | None:
    """The system turn that a ChatML template writes when a conversation has none."""
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(list(CONVERSATIONS[0]), tokenize=False)
    except TemplateError:
        return None
    found = re.match(r"(?s)<\|im_start\|>system\n(.+?)<\|im_end\|>", text)
    return found[1] if found else None
