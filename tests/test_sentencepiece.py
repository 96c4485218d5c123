"""InternLM2's SentencePiece tokenizer, read without its remote code."""

from __future__ import annotations

import io
import json

import pytest
import sentencepiece

from sa2va_tools.errors import CheckpointError, CheckpointMismatchError
from sa2va_tools.model.text.tokenizer import load_tokenizer

ADDED = ("<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>", "[SEG]", "<p>", "</p>")
TEXTS = (
    "Please segment the dog in this image.",
    "<|im_start|>user\n<IMG_CONTEXT><IMG_CONTEXT>\nWhat is it?<|im_end|>\n<|im_start|>assistant\n",
    "It is <p>a red ball</p> [SEG], and [SEG] too.",
    "Äpfel 你好 🦊 [SEG]<|im_end|>",
    " two  spaces ",
)


@pytest.fixture(scope="module", params=[True, False], ids=["dummy-prefix", "no-prefix"])
def model(request):
    """(the trained model's bytes, the model itself), with byte fallback as InternLM2 has."""
    sentences = [
        "Please segment the dog in this image.",
        "It is a red ball and a blue cat, what is it? User two",
    ]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 20),
        model_writer=written,
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=request.param,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return written.getvalue(), sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


@pytest.fixture
def folder(tmp_path, model):
    content, processor = model
    (tmp_path / "tokenizer.model").write_bytes(content)
    first = processor.get_piece_size()
    decoder = {str(first + number): {"content": token, "special": True} for number, token in enumerate(ADDED)}
    config = {"added_tokens_decoder": decoder, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_undoes_encoding(folder, model, text):
    tokenizer, first = load_tokenizer(folder), model[1].get_piece_size()
    ids = tokenizer.encode(text)
    assert ids[0] == model[1].bos_id()
    assert tokenizer.decode(ids[1:]) == text
    assert sum(number >= first for number in ids) == sum(text.count(token) for token in ADDED)


def test_text_between_added_tokens_is_encoded_by_the_model(folder, model):
    tokenizer, (_, processor) = load_tokenizer(folder), model
    ids = tokenizer.encode("It is [SEG], a dog.")
    expected = [
        processor.bos_id(),
        *processor.encode("It is "),
        tokenizer.seg_id,
        *processor.encode(", a dog."),
    ]
    assert ids == expected
    assert tokenizer.seg_id == processor.get_piece_size() + ADDED.index("[SEG]")
    assert tokenizer.image_id == processor.get_piece_size() + ADDED.index("<IMG_CONTEXT>")
    assert tokenizer.eos_id == processor.eos_id()


def test_bos_is_left_out_if_the_files_say_so(folder, model):
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"add_bos_token": False}
    path.write_text(json.dumps(config), encoding="utf-8")
    assert load_tokenizer(folder).encode("a dog") == model[1].encode("a dog")


def test_the_tail_of_an_answer_decodes_as_the_whole_does(folder):
    """Stop words are looked for in the last tokens alone."""
    tokenizer = load_tokenizer(folder)
    ids = tokenizer.encode("It is [SEG] and [SEG].<|im_end|>")
    assert tokenizer.decode(ids[-3:]).endswith("<|im_end|>")


def test_a_broken_model_and_a_missing_seg_are_named(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["added_tokens_decoder"] = {
        number: token
        for number, token in config["added_tokens_decoder"].items()
        if token["content"] != "[SEG]"
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointMismatchError, match=r"\[SEG\]"):
        load_tokenizer(folder)
    (folder / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        load_tokenizer(folder)
