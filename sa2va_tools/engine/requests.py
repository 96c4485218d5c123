"""What callers ask, checked and put into the words that the checkpoints were trained with. Knows no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from sa2va_tools.checks import as_items, show_value
from sa2va_tools.errors import RequestError, WrongTypeError
from sa2va_tools.model.output import RegionAnswer
from sa2va_tools.model.text import prompts

MAX_EXPRESSIONS = 64
MAX_CHARACTERS = 2000
_EXAMPLE = 'Name one thing per expression, e.g. ["the red car", "the person on the left"].'
_ACCEPTED = "text, or a list (or another sequence or generator) of texts"
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """i me my we us our you your he she it its they them their this that these those there here and or
        but if so then as is are was were be been being do does did don doesn didn can could will would shall
        should may might must have has had any each every some both also just only very too to of for from by
        with into onto please want need like let tell get put now which who whose what when how why exactly
        precisely clearly thanks thank hello""",
    )
)
_REGION_WARNINGS = {
    "crop": "A region was too small for the model's region grid, so it was shown a crop around it.",
    "outline": "Approximate: this checkpoint has no region prompts, so it was shown a crop with a red "
    "outline around the region.",
}
_MARKUP = (prompts.IMAGE, *prompts.SPECIAL_TOKENS, "<|")


@dataclass(frozen=True, slots=True)
class Expressions:
    """Expressions to look for, each once, and what to tell the caller about them."""

    texts: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def check_text(text: object, what: str) -> str:
    """`text` without surrounding space. RequestError if it is empty, too long, or contains markup that the
    model would take for its own tokens; TypeError if it is not text."""
    if not isinstance(text, str):
        raise WrongTypeError(f"the {what} must be text, not {type(text).__name__}: {show_value(text)}")
    text = text.strip()
    if not text:
        raise RequestError(f"The {what} is empty.", hint="Say in words what to look for, e.g. 'the red car'.")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise RequestError(
            f"The {what} contains characters that are not text (NUL or a lone surrogate).",
            hint="Send it as plain Unicode text.",
        )
    if all(unicodedata.category(letter)[0] in "PZC" for letter in text):
        raise RequestError(
            f"The {what} {text!r} contains no word.",
            hint="Say in words what to look for, e.g. 'the red car'.",
        )
    if len(text) > MAX_CHARACTERS:
        raise RequestError(
            f"The {what} has {len(text)} characters; at most {MAX_CHARACTERS} are allowed.",
            hint="Shorten it.",
        )
    markup = next((token for token in _MARKUP if token in text), None)
    if markup is not None:
        raise RequestError(
            f"The {what} contains {markup!r}, which is part of the model's own markup.",
            hint="Leave it out: the call itself decides whether masks are made.",
        )
    return text


def check_expressions(expressions: str | Sequence[str]) -> Expressions:
    """One or several expressions; repetitions, also in other letter case, are asked once and warned about.
    RequestError on none, too many, or a bad one."""
    given = [expressions] if isinstance(expressions, str) else as_items("expressions", expressions, _ACCEPTED)
    if not given:
        raise RequestError("No expression was given.", hint=_EXAMPLE)
    if len(given) > MAX_EXPRESSIONS:
        raise RequestError(
            f"{len(given)} expressions were given; at most {MAX_EXPRESSIONS} are allowed in one call.",
            hint="Split them over several calls: later calls on the same media are cheaper.",
        )
    what = ["expression"] if len(given) == 1 else [f"expression {n}" for n in range(1, len(given) + 1)]
    texts = [check_text(text, name) for text, name in zip(given, what, strict=True)]
    different = {text.casefold(): text for text in reversed(texts)}
    unique = tuple(dict.fromkeys(different[text.casefold()] for text in texts))
    if len(unique) == len(texts):
        return Expressions(unique)
    return Expressions(
        unique,
        (f"Repeated expressions are answered once: {len(texts)} were given, {len(unique)} are different.",),
    )


def describe_question(question: str | None, *, video: bool) -> str:
    """The question, or the trained request for a description."""
    if question is None:
        return prompts.DESCRIBE_VIDEO if video else prompts.DESCRIBE_IMAGE
    return check_text(question, "question")


def ground_question(question: str | None, *, video: bool) -> str:
    """The question, or a request for a description, with the trained request for masks."""
    if question is None:
        return prompts.GROUND_VIDEO if video else prompts.GROUND_IMAGE
    text = check_text(question, "question")
    return text if asks_for_masks(text) else f"{text} {prompts.GROUND_SUFFIX}"


def asks_for_masks(question: str) -> bool:
    """Whether a question contains the trained request for masks, as every `ground_question` does."""
    return "segmentation mask" in question


def caption_question(question: str | None) -> str:
    """A question about the only region of its prompt, which the model knows as region1."""
    if question is None:
        return prompts.CAPTION_REGION
    text = check_text(question, "question")
    if "region1" in text:
        return text
    for phrase in ("this region", "the region", "the marked region"):
        if phrase in text:
            return text.replace(phrase, "region1", 1)
    return f"{text} (region1)"


def warn_about_regions(answers: Sequence[RegionAnswer]) -> list[str]:
    """Warnings for regions that were not shown by a plain region prompt, each kind once."""
    shown = {answer.shown_as for answer in answers}
    return [warning for kind, warning in _REGION_WARNINGS.items() if kind in shown]


def warn_about_small_regions(numbers: Sequence[int], *, video: bool) -> list[str]:
    """A warning for regions that vanish on the model's grid."""
    if not numbers:
        return []
    listed = ", ".join(map(str, numbers))
    rest = " and was not tracked to other frames" if video else ""
    return [f"Region {listed} is smaller than the model can see; its mask is as it was given{rest}."]


def find_unknown_words(texts: Sequence[str], known: AbstractSet[str]) -> list[str]:
    """Words of `texts`, each once, that are not among the `known` lower-case ones. Words without content
    ("any", "it's", "I") are ignored: they change nothing for the model."""
    found = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", " ".join(texts).lower())
    words = (word.partition("'")[0].partition("’")[0] for word in found)
    return [word for word in dict.fromkeys(words) if word not in known and word not in _STOP_WORDS]
