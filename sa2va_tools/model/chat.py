"""How a checkpoint's chat is written: the text of a whole conversation, and what ends an answer.

InternVL checkpoints name one of upstream's templates in their config; the Qwen-VL families bring a template
of their own, which is rendered in a sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sa2va_tools.errors import CheckpointError
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.prompt import IMAGE, Template, Turn, chat_text, template_named, without_mark

_AGAIN = "Download the checkpoint again."
_QWEN_STOPS = ("<|im_end|>", "<|endoftext|>")
_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_DEFAULTS = {
    "qwen3_vl": _CHATML,
    "qwen2_5_vl": "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}" + _CHATML,
}


class Chat(Protocol):
    """A way to write conversations."""

    @property
    def stop_words(self) -> tuple[str, ...]:
        """Words that end an answer, the usual one first."""
        ...

    def text(self, question: str, pictures: str, history: Sequence[Turn] = ()) -> str:
        """Everything up to where the answer begins; `pictures` are placeholders of the conversation's
        pictures, which stand in its first question."""
        ...


@dataclass(frozen=True, slots=True)
class TemplateChat:
    """One of upstream's templates."""

    template: Template

    @property
    def stop_words(self) -> tuple[str, ...]:
        return self.template.stop_words

    def text(self, question: str, pictures: str, history: Sequence[Turn] = ()) -> str:
        return chat_text(self.template, question, pictures, history)


@dataclass(frozen=True, slots=True)
class JinjaChat:
    """The checkpoint's own template. Pictures come first of all and their mark is taken out of the text, as
    upstream does for these families."""

    template: str
    source: str
    stop_words: tuple[str, ...] = _QWEN_STOPS

    def text(self, question: str, pictures: str, history: Sequence[Turn] = ()) -> str:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        messages: list[dict[str, Any]] = []
        for number, turn in enumerate((*history, Turn(question, ""))):
            first = pictures + turn.question.replace(IMAGE, "")
            asked = first if number == 0 else without_mark(turn.question)
            messages.append({"role": "user", "content": [{"type": "text", "text": asked}]})
            if number < len(history):
                messages.append({"role": "assistant", "content": _without_end(turn.answer)})
        try:
            rendered, _ = render_jinja_template(
                [messages], chat_template=self.template, add_generation_prompt=True
            )
        except TemplateError as error:
            raise CheckpointError(
                f"The chat template in {self.source} cannot be rendered: {error}.", hint=_AGAIN
            ) from error
        text: str = rendered[0]
        return text


def load_chat(folder: Path, config: Sa2vaConfig) -> Chat:
    """The chat of the checkpoint in `folder`. UnsupportedCheckpointError for a template name that is not
    known, CheckpointError for a file that cannot be read."""
    if config.family == "internvl":
        return TemplateChat(template_named(config.template))
    plain = folder / "chat_template.jinja"
    try:
        if plain.is_file():
            return JinjaChat(plain.read_text(encoding="utf-8"), str(plain))
        for path in (folder / "chat_template.json", folder / "tokenizer_config.json"):
            template = (
                json.loads(path.read_text(encoding="utf-8")).get("chat_template") if path.is_file() else None
            )
            if isinstance(template, str):
                return JinjaChat(template, str(path))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"The chat template in {folder} cannot be read: {error}.", hint=_AGAIN
        ) from error
    return JinjaChat(_DEFAULTS[config.family], "this package")


def _without_end(answer: str) -> str:
    for word in _QWEN_STOPS:
        answer = answer.removesuffix(word)
    return answer
