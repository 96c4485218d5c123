"""What is refused before a model is asked, and how requests are put into the trained words."""

from __future__ import annotations

import pytest

from sa2va_tools.engine.requests import (
    caption_question,
    check_expressions,
    check_text,
    find_unknown_words,
    ground_question,
)
from sa2va_tools.errors import RequestError


@pytest.mark.parametrize("text", ["", " ", "...", "?!", "a\0b", "\ud83d", "[SEG]", "<image> cat", "x" * 2001])
def test_what_is_no_text_to_look_for_is_refused_with_a_next_step(text):
    with pytest.raises(RequestError) as caught:
        check_text(text, "expression")
    assert caught.value.hint


@pytest.mark.parametrize("value", [None, 7, b"a cat", ["a cat"]])
def test_what_is_not_text_at_all_is_a_type_error(value):
    with pytest.raises(TypeError, match="must be text"):
        check_text(value, "expression")


@pytest.mark.parametrize("text", ["the {red} car", "狗", "🚗", "a\nb", "Müllers Hund", "2"])
def test_any_language_any_braces_and_pictographs_are_text(text):
    assert check_text(f" {text} ", "expression") == text


def test_repeated_expressions_are_asked_once_with_a_warning():
    asked = check_expressions(["a cat", "a dog", "a cat ", "A Cat"])
    assert asked.texts == ("a cat", "a dog")
    assert "4 were given" in asked.warnings[0]
    assert check_expressions("a cat").warnings == ()


def test_a_question_with_masks_asks_for_them_once():
    asked = ground_question("What is on the table?", video=False)
    assert asked.startswith("What is on the table? Please respond with interleaved segmentation masks")
    assert ground_question(asked, video=False) == asked


def test_a_question_about_a_region_uses_the_name_that_the_prompt_gives_it():
    assert caption_question("What colour is this region?") == "What colour is region1?"
    assert caption_question("What is region1?") == "What is region1?"
    assert "region1" in caption_question("What is it?")


def test_unknown_words_are_those_with_content():
    known = {"a", "the", "red", "circle"}
    assert find_unknown_words(["Is there a Red circle, and the zebra's red circle?"], known) == ["zebra"]
