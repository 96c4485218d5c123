"""The text of an answer while it is generated: always a prefix of the final text."""

from __future__ import annotations

import random

import numpy as np
import pytest

from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime
from sa2va_tools.model.text.prompts import clean_answer
from sa2va_tools.model.text.streamer import TextStream
from sa2va_tools.model.text.tokenizer import load_tokenizer
from sa2va_tools.run import Run


class Bytes:
    """A tokenizer whose tokens are bytes, or pieces of several; it counts what it decodes."""

    def __init__(self, pieces=()):
        self.pieces, self.decoded = list(pieces), 0

    def decode(self, ids):
        self.decoded += len(ids)
        return b"".join(self.pieces[each] for each in ids).decode(errors="replace")


def streamed(pieces):
    tokenizer = Bytes(pieces)
    stream = TextStream(tokenizer)
    texts = [stream.text(range(count)) for count in range(1, len(pieces) + 1)]
    return texts, tokenizer


def cut(text, seed):
    """The text's bytes in pieces of 1 to 5, anywhere."""
    data, chance, pieces = text.encode(), random.Random(seed), []
    while data:
        size = chance.randint(1, 5)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


ANSWERS = [
    "Sure, it is [SEG].<|im_end|>",
    " <p> A red square </p>  [SEG] and <p> two cats </p> [SEG], [SEG] and [SEG] are here.<|end|>",
    "[SEG], [SEG], and [SEG]. a < b and [x] <y>?  \n Next line </s>",
    "Ein grüner Würfel, 日本語 und 🙂🙃 am Rand [SEG], andere nicht.",
    "[SEG] and [SEG] and the rest",
    "[SEG]",
]


@pytest.mark.parametrize("raw", ANSWERS)
@pytest.mark.parametrize("seed", range(8))
def test_each_text_is_a_longer_prefix_of_the_answer(raw, seed):
    texts, _ = streamed(cut(raw, seed) if seed else [bytes([each]) for each in raw.encode()])
    whole = clean_answer(raw).text
    assert all(whole.startswith(text) for text in texts)
    assert texts == sorted(texts, key=len)
    assert len(whole) - len(texts[-1]) <= len(" and")


def test_the_text_comes_without_delay():
    words = [b"The", b" red", b" square", b" moves", b" <p>", b"left", b"</p>", b" [SEG]", b"."]
    texts, _ = streamed(words)
    assert texts[:4] == ["The", "The red", "The red square", "The red square moves"]
    assert texts[-1] == "The red square moves left."


def test_invalid_bytes_do_not_hold_up_later_text():
    texts, tokenizer = streamed([b"a"] + [b"\xff"] * 400 + [b" b"])
    assert texts[-1].endswith(" b")
    assert tokenizer.decoded < 25 * 402


def test_each_token_takes_the_same_work_however_long_the_text():
    texts, tokenizer = streamed([b"word "] * 3000)
    assert len(texts[-1]) == 5 * 3000 - 1
    assert tokenizer.decoded <= 4 * 3000


def test_tokens_of_a_real_tokenizer_give_its_own_text():
    tokenizer = load_tokenizer(NANO_FOLDER)
    raw = "Sure, <p>the red square</p> [SEG] is above the blue circle."
    ids = tokenizer.encode(raw)
    stream = TextStream(tokenizer)
    texts = [stream.text(ids[:count]) for count in range(1, len(ids) + 1)]
    assert texts[-1] == clean_answer(tokenizer.decode(ids)).text
    assert all(texts[-1].startswith(text) for text in texts)


def test_reports_count_the_tokens_and_hold_the_text_so_far():
    reports = []
    runtime = Sa2vaRuntime.load(NANO_FOLDER, device="cpu")
    with runtime.session(Run(reports.append)) as session:
        picture = np.full((64, 64, 3), 90, np.uint8)
        features = session.language.get_image_features(lambda: [picture], video=False)
        answer = session.language.answer("<image>\nPlease describe the image.", features, label="a caption")
    reports = [report for report in reports if report.stage == "answer"]
    assert [report.done for report in reports] == list(range(1, len(answer.token_ids) + 1))
    assert reports[1].message == "writing a caption, 2 tokens"
    assert reports[-1].text == clean_answer(answer.text).text
