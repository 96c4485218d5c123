"""What callers ask, checked and put into the trained words. Knows no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from sa2va_tools.errors import RequestError
from sa2va_tools.model import prompt as words
from sa2va_tools.model.output import RegionAnswer

MAX_EXPRESSIONS = 64
MAX_CHARACTERS = 2000
_EMPTY_WORDS = frozenset(
    re.findall(
        r"\w+",
        """i me my we us our you your he she it its they them their this that these those there here and or
        but if so then as is are was were be been being do does did don doesn didn can could will would shall
        should may might must have has had any each every some both also just only very too to of for from by
        with into onto please want need like let tell get put now which who whose what when how why exactly
        precisely clearly thanks thank hello""",
    )
)
_SHOWN = {
    "crop": "A region was too small for the model's region grid; it was cropped in on.",
    "outline": "Approximate: this checkpoint takes no region prompts, so it was shown a crop with a red "
    "outline around the region.",
}
_MARKUP = (words.IMAGE, *words.SPECIAL_TOKENS, "<|")


def checked_text(text: str, what: str) -> str:
    """`text` without surrounding space. Raises RequestError where it is empty, very long, or holds
    markup that would be taken for the model's own tokens."""
    text = text.strip()
    if not text:
        raise RequestError(f"The {what} is empty.", hint="Say in words what to look for, e.g. 'the red car'.")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise RequestError(
            f"The {what} holds characters that are not text (NUL or a lone surrogate).",
            hint="Send it as plain Unicode text.",
        )
    if not any(unicodedata.category(letter)[0] not in "PZC" for letter in text):
        raise RequestError(
            f"The {what} {text!r} holds no word.", hint="Say in words what to look for, e.g. 'the red car'."
        )
    if len(text) > MAX_CHARACTERS:
        raise RequestError(
            f"The {what} has {len(text)} characters; {MAX_CHARACTERS} are allowed.", hint="Shorten it."
        )
    found = next((token for token in _MARKUP if token in text), None)
    if found is not None:
        raise RequestError(
            f"The {what} holds {found!r}, which is part of the model's own markup.",
            hint="Leave it out: the call itself decides whether masks are made.",
        )
    return text


def checked_expressions(expressions: str | Sequence[str]) -> list[str]:
    """One or several expressions, each asked once. Raises RequestError."""
    given = [expressions] if isinstance(expressions, str) else list(expressions)
    if not given:
        raise RequestError("No expression was given.", hint="Say in words what to look for.")
    if len(given) > MAX_EXPRESSIONS:
        raise RequestError(
            f"{len(given)} expressions were given; {MAX_EXPRESSIONS} are allowed in one call.",
            hint="Split them over several calls.",
        )
    return list(dict.fromkeys(checked_text(text, "expression") for text in given))


def said_once(expressions: str | Sequence[str], asked: Sequence[str]) -> list[str]:
    """A warning where an expression was given more than once."""
    given = 1 if isinstance(expressions, str) else len(expressions)
    if given == len(asked):
        return []
    return [f"{given} expressions were given, {len(asked)} of them different: each is answered once."]


def describe_question(question: str | None, *, video: bool) -> str:
    if question is None:
        return words.DESCRIBE_VIDEO if video else words.DESCRIBE_IMAGE
    return checked_text(question, "question")


def ground_question(question: str | None, *, video: bool) -> str:
    """The trained request for a description with masks, or a question with its request added."""
    if question is None:
        return words.GROUND_VIDEO if video else words.GROUND_IMAGE
    asked = checked_text(question, "question")
    return asked if "segmentation mask" in asked else f"{asked} {words.GROUND_SUFFIX}"


def caption_question(question: str | None) -> str:
    """A question about the one region of its prompt, by the name that it has there."""
    if question is None:
        return words.CAPTION_REGION
    asked = checked_text(question, "question")
    if "region1" in asked:
        return asked
    for phrase in ("this region", "the region", "the marked region"):
        if phrase in asked:
            return asked.replace(phrase, "region1", 1)
    return f"{asked} (region1)"


def said_of_regions(answers: Sequence[RegionAnswer]) -> list[str]:
    """Warnings for regions that were not shown by a plain region prompt, each kind once."""
    shown = {answer.shown for answer in answers}
    return [warning for way, warning in _SHOWN.items() if way in shown]


def said_of_small(numbers: Sequence[int], *, video: bool) -> list[str]:
    """A warning for regions that vanish on the model's grid."""
    if not numbers:
        return []
    named = ", ".join(map(str, numbers))
    rest = "; it was followed nowhere else" if video else ""
    return [f"Region {named}: smaller than the model can see, so the mask is as it was given{rest}."]


def unknown_words(texts: Sequence[str], known: AbstractSet[str]) -> list[str]:
    """Words of `texts`, each once, that are not among the `known` lower-case ones. Words that carry no
    content ("any", "it's", "I") are left out: a model does not see more or less for them."""
    found = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", " ".join(texts).lower())
    plain = (word.partition("'")[0].partition("’")[0] for word in found)
    return [word for word in dict.fromkeys(plain) if word not in known and word not in _EMPTY_WORDS]
