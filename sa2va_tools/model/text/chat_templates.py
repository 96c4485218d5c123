"""Chat templates of checkpoints: the text of a whole conversation, and the words that end an answer.

InternVL checkpoints name one of upstream's templates in their config. Qwen-VL checkpoints come with a Jinja
template, which is rendered in a sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sa2va_tools.errors import CheckpointError
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.text.prompts import IMAGE, Turn, find_template, remove_image_mark

_DOWNLOAD_AGAIN = "Download the checkpoint again."
_QWEN_STOP_WORDS = ("<|im_end|>", "<|endoftext|>")
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
    """How conversations with a checkpoint are written."""

    @property
    def stop_words(self) -> tuple[str, ...]:
        """Words that end an answer, the usual one first."""

    def text(self, question: str, pictures: str, history: Sequence[Turn] = ()) -> str:
        """The whole conversation up to the answer of `question`. `pictures` are the placeholders of all
        pictures, which go into the first question."""


@dataclass(frozen=True, slots=True)
class JinjaChat:
    """A conversation in the checkpoint's own template. Pictures come before the first question, whose
    `<image>` is removed, as upstream does for these families."""

    template: str
    source: str
    """Where the template comes from, for errors."""
    stop_words: tuple[str, ...] = _QWEN_STOP_WORDS

    def text(self, question: str, pictures: str, history: Sequence[Turn] = ()) -> str:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        first, *others = (*(turn.question for turn in history), question)
        asked = [pictures + first.replace(IMAGE, ""), *map(remove_image_mark, others)]
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": [{"type": "text", "text": text}]} for text in asked
        ]
        for number, turn in enumerate(history):
            answer = {"role": "assistant", "content": _strip_stop_words(turn.answer)}
            messages.insert(2 * number + 1, answer)
        try:
            rendered, _ = render_jinja_template(
                [messages], chat_template=self.template, add_generation_prompt=True
            )
        except TemplateError as error:
            raise CheckpointError(
                f"The chat template in {self.source} cannot be rendered: {error}.", hint=_DOWNLOAD_AGAIN
            ) from error
        return rendered[0]


def load_chat(folder: Path, config: Sa2vaConfig) -> Chat:
    """The chat of the checkpoint in `folder`. Raises UnsupportedCheckpointError for an unknown template name,
    CheckpointError for a file that cannot be read."""
    if config.family == "internvl":
        return find_template(config.template)
    jinja_file = folder / "chat_template.jinja"
    try:
        if jinja_file.is_file():
            return JinjaChat(jinja_file.read_text(encoding="utf-8"), str(jinja_file))
        for path in (folder / "chat_template.json", folder / "tokenizer_config.json"):
            template = (
                json.loads(path.read_text(encoding="utf-8")).get("chat_template") if path.is_file() else None
            )
            if isinstance(template, str):
                return JinjaChat(template, str(path))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"The chat template in {folder} cannot be read: {error}.", hint=_DOWNLOAD_AGAIN
        ) from error
    return JinjaChat(_DEFAULTS[config.family], "this package")


def _strip_stop_words(answer: str) -> str:
    for word in _QWEN_STOP_WORDS:
        answer = answer.removesuffix(word)
    return answer
