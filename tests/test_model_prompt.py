"""Prompts for the model, and answers for people."""

from __future__ import annotations

import pytest

from sa2va_tools.errors import UnsupportedCheckpointError
from sa2va_tools.model.text.prompts import (
    IMAGE,
    TEMPLATES,
    Turn,
    clean_answer,
    find_template,
    picture_tokens,
    region_tokens,
    segment_question,
)

CTX = "<IMG_CONTEXT>"


def test_frames_have_lines_of_their_own_and_tiles_share_one():
    assert picture_tokens([1, 1], 2) == f"<img>{CTX * 2}</img>\n<img>{CTX * 2}</img>"
    assert picture_tokens([3], 1) == f"<img>{CTX * 3}</img>"


def test_regions_are_named_in_order_with_their_cells():
    assert region_tokens([2, 1]) == (
        f"\nThere are 2 part regions in the picture: region1<vp>{CTX * 2}</vp>, region2<vp>{CTX}</vp>.\n"
    )


def test_referring_requests_use_the_trained_wording():
    assert segment_question("red circle", video=False) == "<image>\n Please segment red circle in this image."
    assert segment_question("the dog.", video=True) == "<image>\nPlease segment the dog."
    assert segment_question("who jumps?", video=True) == (
        "<image>\n who jumps? Please respond with a segmentation mask."
    )


def test_only_the_first_turn_has_the_pictures():
    text = TEMPLATES["qwen_chat"].text(
        "And now?", "<PIC>", [Turn(f"{IMAGE}\nWhat is it?", "A cat.<|im_end|>")]
    )
    assert text == (
        "<|im_start|>user\n<PIC>\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n"
        "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_past_answers_end_with_a_stop_word():
    text = TEMPLATES["phi3_chat"].text("Two", "", [Turn("One", "Yes.")])
    assert text.startswith("<|user|>\nOne<|end|>\n<|assistant|>\nYes.<|end|>\n<|user|>\nTwo<|end|>\n")


def test_an_unknown_template_is_refused_by_name():
    with pytest.raises(UnsupportedCheckpointError, match="vicuna"):
        find_template("vicuna")


def test_phrase_spans_are_characters_of_the_clean_answer():
    clean = clean_answer("There is <p>a red circle</p> [SEG] and <p> a star</p> [SEG].<|im_end|>")
    assert clean.text == "There is a red circle and  a star."
    assert [clean.text[slice(*span)] for span in clean.phrase_spans] == ["a red circle", "a star"]


def test_masks_without_a_phrase_have_no_span():
    assert clean_answer("Sure, it is [SEG].<|im_end|>").phrase_spans == (None,)
    assert clean_answer("<p>one</p> [SEG] [SEG]").phrase_spans == ((0, 3), None)
    assert clean_answer("Sure, [SEG].").text == "Sure,."


def test_words_that_only_join_marks_are_removed_with_them():
    several = clean_answer("Sure, they are [SEG], [SEG] and [SEG].")
    assert (several.text, several.phrase_spans) == ("Sure, they are.", (None, None, None))
    assert clean_answer("It is [SEG] and a hat [SEG].").text == "It is and a hat."


@pytest.mark.parametrize("raw", ["", "<|im_end|>", "  [SEG]  ", "</p>[SEG]", "<p>[SEG]"])
def test_odd_answers_can_be_cleaned(raw):
    clean = clean_answer(raw)
    assert "[SEG]" not in clean.text
    assert all(span is None or span[0] < span[1] <= len(clean.text) for span in clean.phrase_spans)
