"""The text side: chat templates, task wording, special tokens, and cleaning of answers.

Strings only; knows nothing of tensors or tokenizers. Wording is what the published checkpoints were
trained with (bytedance/Sa2VA, `projects/sa2va/datasets` and the evaluation scripts).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sa2va_tools.errors import UnsupportedCheckpointError

SEG = "[SEG]"
IMG_START, IMG_END, IMG_CONTEXT = "<img>", "</img>", "<IMG_CONTEXT>"
VISION_START, VISION_END, IMAGE_PAD = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"
"""The same for the Qwen-VL families."""
PHRASE_START, PHRASE_END = "<p>", "</p>"
REGION_START, REGION_END = "<vp>", "</vp>"
IMAGE = "<image>"
"""Where the picture goes in a question; replaced by visual tokens."""
SPECIAL_TOKENS = (
    IMG_START, IMG_END, IMG_CONTEXT, SEG, PHRASE_START, PHRASE_END, REGION_START, REGION_END
)  # fmt: skip

DESCRIBE_IMAGE = "Please describe the image."
DESCRIBE_VIDEO = "Please describe the video."
GROUND_IMAGE = (
    "Could you please give me a brief description of the image? Please respond with interleaved "
    "segmentation masks for the corresponding parts of the answer."
)
GROUND_VIDEO = GROUND_IMAGE.replace("the image", "the video")
GROUND_SUFFIX = (
    "Please respond with interleaved segmentation masks for the corresponding parts of the answer."
)
CAPTION_REGION = (
    "Can you provide me with a detailed description of the region in the picture marked by region1?"
)


@dataclass(frozen=True, slots=True)
class Template:
    """One turn of a chat, and what ends an answer."""

    user: str
    stop_words: tuple[str, ...]

    def turn(self, question: str) -> str:
        return self.user.format(input=question)


_CHATML = Template("<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n", ("<|im_end|>",))
TEMPLATES = {
    "qwen_chat": Template(_CHATML.user, ("<|im_end|>", "<|endoftext|>")),
    "internlm2_chat": _CHATML,
    "phi3_chat": Template("<|user|>\n{input}<|end|>\n<|assistant|>\n", ("<|end|>",)),
}


def template_named(name: str) -> Template:
    """The template a config names; UnsupportedCheckpointError for one that is not known."""
    if name not in TEMPLATES:
        raise UnsupportedCheckpointError(
            f"The checkpoint's chat template {name!r} is not known (known: {', '.join(TEMPLATES)})."
        )
    return TEMPLATES[name]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer, for follow-ups; the answer is the model's raw text."""

    question: str
    answer: str


def segment_question(expression: str, *, video: bool) -> str:
    """The trained request for masks of what `expression` refers to."""
    expression = expression.strip()
    if expression.endswith("?"):
        return f"{IMAGE}\n {expression} Please respond with a segmentation mask."
    if video:
        return f"{IMAGE}\nPlease segment {_as_object(expression)}."
    return f"{IMAGE}\n Please segment {_as_object(expression)} in this image."


def chat_question(question: str) -> str:
    return f"{IMAGE}\n{question.strip()}"


def picture_tokens(tiles_per_picture: Sequence[int], tokens_per_tile: int) -> str:
    """Visual placeholders: one picture of several tiles, or several frames, each on its own line."""
    return "\n".join(
        f"{IMG_START}{IMG_CONTEXT * (tiles * tokens_per_tile)}{IMG_END}" for tiles in tiles_per_picture
    )


def region_tokens(cells_per_region: Sequence[int]) -> str:
    """The sentence that repeats each region's visual tokens after the picture."""
    regions = ", ".join(
        f"region{number}{REGION_START}{IMG_CONTEXT * cells}{REGION_END}"
        for number, cells in enumerate(cells_per_region, start=1)
    )
    return f"\nThere are {len(cells_per_region)} part regions in the picture: {regions}.\n"


def chat_text(template: Template, question: str, pictures: str, history: Sequence[Turn] = ()) -> str:
    """The whole text of a chat: pictures go to `<image>` in the first question, past answers stand
    between their questions, and the last question waits for its answer."""
    turns = [*((turn.question, turn.answer) for turn in history), (question, None)]
    text = ""
    for number, (asked, answered) in enumerate(turns):
        asked = asked.replace(IMAGE, pictures) if number == 0 else without_mark(asked)
        text += template.turn(asked)
        if answered is not None:
            text += _ended(answered, template) + "\n"
    return text


def without_mark(question: str) -> str:
    """A question of a later turn: without the mark of the pictures and the space that stands after it."""
    return re.sub(rf"{IMAGE}\s*", "", question)


def _ended(answer: str, template: Template) -> str:
    return answer if answer.endswith(template.stop_words) else answer + template.stop_words[0]


def _as_object(expression: str) -> str:
    """`Red circle.` → `red circle`: as the training data spells an object inside a sentence."""
    return expression.rstrip(" .!")


# ---- answers ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CleanAnswer:
    """An answer for people, and the phrase that each `[SEG]` belongs to.

    `phrase_spans` has one entry per `[SEG]`, in order: the characters of `text` of the phrase
    before it, or None where the `[SEG]` has no phrase of its own.
    """

    text: str
    phrase_spans: tuple[tuple[int, int] | None, ...]


# Between two marks that follow each other, "," and "and" go with them: nothing would be left to join.
_MARKUP = re.compile(r"<p>|</p>|(?<=\[SEG\])(?:,| and)(?=\s*\[SEG\])|\s*\[SEG\]|<\|[a-z_]+\|>|</s>")


def clean_answer(raw: str) -> CleanAnswer:
    """Strips `<p>`, `[SEG]` and stop tokens; links each `[SEG]` to the phrase before it, by order."""
    parts: list[str] = []
    length, cursor, opened = 0, 0, 0
    phrase: tuple[int, int] | None = None
    spans: list[tuple[int, int] | None] = []
    for match in _MARKUP.finditer(raw):
        piece = raw[cursor : match.start()]
        parts.append(piece)
        length += len(piece)
        cursor = match.end()
        token = match.group().strip()
        if token == PHRASE_START:
            opened = length
        elif token == PHRASE_END:
            phrase = (opened, length)
        elif token == SEG:
            spans.append(phrase)
            phrase = None
    parts.append(raw[cursor:])
    return _trimmed("".join(parts), spans)


def without_markup(raw: str) -> str:
    """The text of `clean_answer`, with the space around it."""
    return _MARKUP.sub("", raw)


def _trimmed(text: str, spans: list[tuple[int, int] | None]) -> CleanAnswer:
    lead = len(text) - len(text.lstrip())
    trimmed = text.strip()

    def moved(span: tuple[int, int] | None) -> tuple[int, int] | None:
        if span is None:
            return None
        start, end = (min(max(edge - lead, 0), len(trimmed)) for edge in span)
        inner = trimmed[start:end]
        start, end = start + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip())
        return (start, end) if start < end else None

    return CleanAnswer(trimmed, tuple(moved(span) for span in spans))
