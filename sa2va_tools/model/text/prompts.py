"""Text around the model: chat templates, the wording of tasks, special tokens, and cleaning of answers.

Strings only; knows nothing of tensors or tokenizers. The wording is what the published checkpoints were
trained with (bytedance/Sa2VA, `projects/sa2va/datasets` and the evaluation scripts).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sa2va_tools.errors import UnsupportedCheckpointError
from sa2va_tools.model.config import FamilyName

SEG = "[SEG]"
IMG_START = "<img>"
IMG_END = "</img>"
IMG_CONTEXT = "<IMG_CONTEXT>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
IMAGE_PAD = "<|image_pad|>"
"""The same for the Qwen-VL families."""
IMAGE_TOKENS: dict[FamilyName, str] = {
    "internvl": IMG_CONTEXT,
    "qwen2_5_vl": IMAGE_PAD,
    "qwen3_vl": IMAGE_PAD,
}
"""The token that is replaced by a visual token, by family."""
PHRASE_START = "<p>"
PHRASE_END = "</p>"
REGION_START = "<vp>"
REGION_END = "</vp>"
IMAGE = "<image>"
"""The mark in a question that is replaced by the placeholders of its pictures."""
SPECIAL_TOKENS = (
    IMG_START, IMG_END, IMG_CONTEXT, SEG, PHRASE_START, PHRASE_END, REGION_START, REGION_END
)  # fmt: skip

DESCRIBE_IMAGE = "Please describe the image."
DESCRIBE_VIDEO = "Please describe the video."
GROUND_SUFFIX = (
    "Please respond with interleaved segmentation masks for the corresponding parts of the answer."
)
GROUND_IMAGE = f"Could you please give me a brief description of the image? {GROUND_SUFFIX}"
GROUND_VIDEO = GROUND_IMAGE.replace("the image", "the video")
CAPTION_REGION = (
    "Can you provide me with a detailed description of the region in the picture marked by region1?"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question and its answer, as the model wrote it."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Template:
    """The text of one turn of a chat, and the words that end an answer, the usual one first."""

    user: str
    stop_words: tuple[str, ...]

    def turn(self, question: str) -> str:
        return self.user.format(input=question)

    def text(self, question: str, pictures: str, history: Sequence[Turn] = ()) -> str:
        """See `Chat`. The pictures replace `<image>` in the first question."""
        first, *others = (*(turn.question for turn in history), question)
        asked = [first.replace(IMAGE, pictures), *map(remove_image_mark, others)]
        text = ""
        for earlier, turn in zip(asked, history, strict=False):
            end = "" if turn.answer.endswith(self.stop_words) else self.stop_words[0]
            text += f"{self.turn(earlier)}{turn.answer}{end}\n"
        return text + self.turn(asked[-1])


_CHATML = Template("<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n", ("<|im_end|>",))
TEMPLATES = {
    "qwen_chat": Template(_CHATML.user, ("<|im_end|>", "<|endoftext|>")),
    "internlm2_chat": _CHATML,
    "phi3_chat": Template("<|user|>\n{input}<|end|>\n<|assistant|>\n", ("<|end|>",)),
}


def find_template(name: str) -> Template:
    """The template that a config names. Raises UnsupportedCheckpointError for an unknown one."""
    if name not in TEMPLATES:
        raise UnsupportedCheckpointError(
            f"The checkpoint's chat template {name!r} is not supported (supported: {', '.join(TEMPLATES)})."
        )
    return TEMPLATES[name]


def segment_question(expression: str, *, video: bool) -> str:
    """The request for masks of what `expression` refers to, as the model was trained with it."""
    expression = expression.strip()
    if expression.endswith("?"):
        return f"{IMAGE}\n {expression} Please respond with a segmentation mask."
    expression = expression.rstrip(" .!")
    if video:
        return f"{IMAGE}\nPlease segment {expression}."
    return f"{IMAGE}\n Please segment {expression} in this image."


def chat_question(question: str) -> str:
    return f"{IMAGE}\n{question.strip()}"


def picture_tokens(tiles_per_picture: Sequence[int], tokens_per_tile: int) -> str:
    """Placeholders for visual tokens: of one picture's tiles, or of several frames, a line each."""
    return "\n".join(
        f"{IMG_START}{IMG_CONTEXT * (tiles * tokens_per_tile)}{IMG_END}" for tiles in tiles_per_picture
    )


def region_tokens(cells_per_region: Sequence[int]) -> str:
    """The sentence after the picture that repeats the visual tokens of each region."""
    regions = ", ".join(
        f"region{number}{REGION_START}{IMG_CONTEXT * cells}{REGION_END}"
        for number, cells in enumerate(cells_per_region, start=1)
    )
    return f"\nThere are {len(cells_per_region)} part regions in the picture: {regions}.\n"


def remove_image_mark(question: str) -> str:
    """The question without `<image>` and the white space after it: only the first question has pictures."""
    return re.sub(rf"{IMAGE}\s*", "", question)


@dataclass(frozen=True, slots=True)
class CleanAnswer:
    """An answer for people, and the phrase of each `[SEG]`."""

    text: str
    phrase_spans: tuple[tuple[int, int] | None, ...]
    """For each `[SEG]`, in order: start and end, in characters of `text`, of the phrase before it; None if it
    has no phrase of its own."""


# "," and "and" between two marks are removed with them, since they would join nothing.
_MARKUP = re.compile(r"<p>|</p>|(?<=\[SEG\])(?:,| and)(?=\s*\[SEG\])|\s*\[SEG\]|<\|[a-z_]+\|>|</s>")


def clean_answer(raw: str) -> CleanAnswer:
    """Remove `<p>`, `[SEG]` and stop tokens, and give each `[SEG]` the phrase before it."""
    parts: list[str] = []
    length = cursor = phrase_start = 0
    phrase: tuple[int, int] | None = None
    spans: list[tuple[int, int] | None] = []
    for match in _MARKUP.finditer(raw):
        piece = raw[cursor : match.start()]
        parts.append(piece)
        length += len(piece)
        cursor = match.end()
        token = match.group().strip()
        if token == PHRASE_START:
            phrase_start = length
        elif token == PHRASE_END:
            phrase = (phrase_start, length)
        elif token == SEG:
            spans.append(phrase)
            phrase = None
    parts.append(raw[cursor:])
    return _trim("".join(parts), spans)


def strip_markup(raw: str) -> str:
    """The text of `clean_answer` before white space is trimmed."""
    return _MARKUP.sub("", raw)


def _trim(text: str, spans: list[tuple[int, int] | None]) -> CleanAnswer:
    """Remove white space around the text and around each phrase."""
    lead = len(text) - len(text.lstrip())
    trimmed = text.strip()

    def trim_span(span: tuple[int, int] | None) -> tuple[int, int] | None:
        if span is None:
            return None
        start, end = (min(max(edge - lead, 0), len(trimmed)) for edge in span)
        phrase = trimmed[start:end]
        start += len(phrase) - len(phrase.lstrip())
        end -= len(phrase) - len(phrase.rstrip())
        return (start, end) if start < end else None

    return CleanAnswer(trimmed, tuple(trim_span(span) for span in spans))
