"""What the language model of each family reads in a first and in a second turn, token by token."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import pytest
from golden_data import golden_checkpoints

from sa2va_tools.errors import CheckpointError, UnsupportedCheckpointError
from sa2va_tools.model.checkpoints.config_file import read_config
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.runtime.language import KV_PREFIX
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime
from sa2va_tools.model.text.chat_templates import JinjaChat, load_chat
from sa2va_tools.model.text.prompts import IMAGE_TOKENS, Turn
from sa2va_tools.run import Run

CHATML_TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PHI3_TURN = "<|user|>\n{}<|end|>\n<|assistant|>\n"


def _checkpoints():
    found = {"nano": NANO_FOLDER, **golden_checkpoints()}
    return [pytest.param(folder, id=name) for name, folder in found.items()]


@lru_cache(maxsize=1)
def _load(folder):
    return Sa2vaRuntime.load(folder, device="cpu", dtype="float32")


@contextmanager
def _session(folder):
    with _load(folder).session(Run()) as session:
        yield session


def _encode_picture(session, key=None):
    return session.language.get_image_features(lambda: [_picture()], video=False, key=key)


def _picture():
    return np.random.default_rng(0).integers(0, 256, (56, 112, 3), dtype=np.uint8)


def _prompt_text(session, question, features, history=()):
    """The text of the prompt, with runs of visual tokens written as {n}."""
    answer = session.language.answer(question, features, history=history, max_new_tokens=1)
    text = session.runtime.checkpoint.tokenizer.decode(list(answer.prompt_ids))
    token = IMAGE_TOKENS[session.runtime.config.family]
    return re.sub(f"(?:{re.escape(token)})+", lambda match: f"{{{len(match.group()) // len(token)}}}", text)


def _turn(config):
    phi3 = config.family == "internvl" and config.template == "phi3_chat"
    return (PHI3_TURN, "<|end|>") if phi3 else (CHATML_TURN, "<|im_end|>")


@pytest.mark.parametrize("folder", _checkpoints())
def test_a_second_turn_contains_the_first_and_its_pictures(folder):
    question, follow_up = "<image>\nSegment the ball.", "And the other one?"
    with _session(folder) as session:
        config, features = session.runtime.config, _encode_picture(session)
        count = features.tokens.shape[0] * features.tokens.shape[1]
        pictures = f"<img>{{{count}}}</img>\n"
        if config.family != "internvl":
            pictures = f"<|vision_start|>{{{count}}}<|vision_end|>\n"
        turn, end = _turn(config)
        begin = _prompt_text(session, "a", None).split(turn.format("a"))[0]
        first = turn.format(f"{pictures}Segment the ball.")
        assert _prompt_text(session, question, features) == begin + first
        past = [Turn(question, f"Sure, [SEG].{end}")]
        second = _prompt_text(session, follow_up, features, past)
        assert second == f"{begin}{first}Sure, [SEG].{end}\n" + turn.format(follow_up)
        for text in (f"<image>\n{follow_up}", f"<image>{follow_up}"):
            assert _prompt_text(session, text, features, past) == second
        without_end = [Turn(question, "Sure, [SEG].")]
        assert _prompt_text(session, follow_up, features, without_end) == second


@pytest.mark.parametrize("folder", _checkpoints())
def test_seg_in_the_past_is_no_answer_of_this_turn(folder):
    """Its embeddings belong to the turn that wrote it."""
    past = [Turn("Where is it?", "It is [SEG].")]
    with _session(folder) as session:
        tokenizer = session.runtime.checkpoint.tokenizer
        seg = tokenizer.seg_id
        words = [seg, *tokenizer.encode("a")[-1:], seg]
        answer = session.language.answer(
            "Again?", history=past, max_new_tokens=4, next_token=lambda step, _: words[min(step, 2)]
        )
    assert seg in answer.prompt_ids
    fed_back = answer.token_ids[:-1].count(seg)
    assert len(answer.seg_prompts) == fed_back


def _qwen_folder(tmp_path, **files):
    config = {
        "model_type": "sa2va_chat",
        "vision_config": {
            "depth": 1, "hidden_size": 8, "num_heads": 1, "patch_size": 14, "spatial_merge_size": 2,
        },
        "text_config": {
            "vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1,
        },
    }  # fmt: skip
    for name, content in {"config.json": json.dumps(config), **files}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path, read_config(tmp_path)


def test_qwen_without_a_template_of_its_own_gets_the_familys(tmp_path):
    chat = load_chat(*_qwen_folder(tmp_path))
    assert chat.text("<image>What?", "<PIC>") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<PIC>What?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("name", ["chat_template.json", "tokenizer_config.json"])
def test_qwens_own_template_wins(tmp_path, name):
    content = "{{ m.content if m.content is string else m.content[0].text }}"
    template = f"{{% for m in messages %}}{{{{ m.role }}}}: {content}\n{{% endfor %}}"
    chat = load_chat(*_qwen_folder(tmp_path, **{name: json.dumps({"chat_template": template})}))
    assert chat.text("<image>Two?", "<PIC>", [Turn("<image>One?", "Yes.<|im_end|>")]) == (
        "user: <PIC>One?\nassistant: Yes.\nuser: Two?\n"
    )


def test_a_template_cannot_reach_out_of_its_sandbox_and_is_named_when_broken():
    for template in ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "{% if %}"):
        with pytest.raises(CheckpointError, match="mine"):
            JinjaChat(template, "mine").text("Hello", "")


def test_a_broken_template_file_and_an_unknown_name_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="chat template"):
        load_chat(*_qwen_folder(tmp_path, **{"chat_template.json": "{"}))
    config = read_config(NANO_FOLDER)
    object.__setattr__(config, "template", "vicuna")
    with pytest.raises(UnsupportedCheckpointError, match="vicuna"):
        load_chat(NANO_FOLDER, config)


@pytest.mark.parametrize("folder", _checkpoints())
def test_a_second_turn_continues_where_the_first_ended(folder):
    """With a cache the answers are the same, and the first turn is not processed again."""
    plain = _load(folder)
    caching = Sa2vaRuntime(plain.checkpoint, "caching", cache_bytes=2**30)
    answers = []
    for runtime in (caching, plain):
        with runtime.session(Run()) as session:
            features = _encode_picture(session, key="picture")
            question = "<image>\nSegment the ball."
            first = session.language.answer(question, features, max_new_tokens=6)
            history = [Turn(question, first.text)]
            second = session.language.answer(
                "And the other one?", features, history=history, max_new_tokens=6
            )
        answers.append((first.token_ids, second.token_ids))
        assert second.prompt_ids[: len(first.prompt_ids)] == first.prompt_ids
    assert answers[0] == answers[1]
    counts = caching.cache.counts()[KV_PREFIX]
    assert (counts.hits, counts.misses, counts.entries) == (1, 1, 1)
    assert plain.cache.counts()[KV_PREFIX].hits == 0
