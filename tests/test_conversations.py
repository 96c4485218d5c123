"""What the language model of each family reads in a first and in a second turn, token by token."""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from sa2va_tools.errors import CheckpointError, UnsupportedCheckpointError
from sa2va_tools.model.chat import JinjaChat, load_chat
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.config import read_config
from sa2va_tools.model.prompt import Turn
from sa2va_tools.model.runtime import Sa2vaRuntime

GOLDEN = Path(os.environ.get("SA2VA_GOLDEN") or Path(__file__).parents[1].parent / "shared" / "golden")
CHATML_TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PHI3_TURN = "<|user|>\n{}<|end|>\n<|assistant|>\n"


def _checkpoints():
    found = {"nano": NANO_FOLDER}
    for file in sorted(GOLDEN.rglob("cases.json")):
        found[file.parent.name] = file.parent / "checkpoint"
    return [pytest.param(folder, id=name) for name, folder in found.items()]


@lru_cache(maxsize=1)
def _runtime(folder):
    return Sa2vaRuntime.load(folder, device="cpu", dtype="float32", threads=1)


def _picture():
    return np.random.default_rng(0).integers(0, 256, (56, 112, 3), dtype=np.uint8)


def _asked(runtime, question, visual, history=()):
    """The text of the prompt, runs of visual tokens written as {n}."""
    answer = runtime.answer(question, visual, history=history, max_new_tokens=1)
    text = runtime._tokenizer.decode(list(answer.prompt_ids))
    token = re.escape(runtime.config.image_token)
    return re.sub(
        f"(?:{token})+", lambda run: f"{{{len(run.group()) // len(runtime.config.image_token)}}}", text
    )


def _turn(runtime):
    phi3 = runtime.config.family == "internvl" and runtime.config.template == "phi3_chat"
    return (PHI3_TURN, "<|end|>") if phi3 else (CHATML_TURN, "<|im_end|>")


@pytest.mark.parametrize("folder", _checkpoints())
def test_a_second_turn_holds_the_first_and_its_pictures(folder):
    runtime = _runtime(folder)
    visual = runtime.look([_picture()], video=False)
    count = visual.tokens.shape[0] * visual.tokens.shape[1]
    pictures = f"<img>{{{count}}}</img>\n"
    question = "<image>\nSegment the ball."
    if runtime.config.family != "internvl":
        pictures = f"<|vision_start|>{{{count}}}<|vision_end|>\n"
    turn, end = _turn(runtime)
    begin = _asked(runtime, "a", None).split(turn.format("a"))[0]
    first = turn.format(f"{pictures}Segment the ball.")
    assert _asked(runtime, question, visual) == begin + first
    second = _asked(runtime, "And the other one?", visual, [Turn(question, f"Sure, [SEG].{end}")])
    assert second == f"{begin}{first}Sure, [SEG].{end}\n" + turn.format("And the other one?")
    for asked in ("<image>\nAnd the other one?", "<image>And the other one?"):
        assert _asked(runtime, asked, visual, [Turn(question, f"Sure, [SEG].{end}")]) == second
    unended = _asked(runtime, "And the other one?", visual, [Turn(question, "Sure, [SEG].")])
    assert unended == second


@pytest.mark.parametrize("folder", _checkpoints())
def test_seg_in_the_past_is_no_answer_of_this_turn(folder):
    """Its embeddings belong to the turn that wrote it."""
    runtime = _runtime(folder)
    seg = runtime._tokenizer.seg_id
    past = [Turn("Where is it?", "It is [SEG].")]
    words = [seg, *runtime._tokenizer.encode("a")[-1:], seg]
    answer = runtime.answer(
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
    said = "{{ m.content if m.content is string else m.content[0].text }}"
    template = f"{{% for m in messages %}}{{{{ m.role }}}}: {said}\n{{% endfor %}}"
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
def test_a_second_turn_reads_on_where_the_first_ended(folder):
    """With a cache the answers are those without, and the first turn is not read again."""
    plain = _runtime(folder)
    keeping = Sa2vaRuntime(plain._loaded, "keeping", cache_bytes=2**30)
    said = []
    for runtime in (keeping, plain):
        visual = runtime.look([_picture()], video=False, key="picture")
        question = "<image>\nSegment the ball."
        first = runtime.answer(question, visual, max_new_tokens=6)
        history = [Turn(question, first.text)]
        second = runtime.answer("And the other one?", visual, history=history, max_new_tokens=6)
        said.append((first.token_ids, second.token_ids))
        assert second.prompt_ids[: len(first.prompt_ids)] == first.prompt_ids
    assert said[0] == said[1]
    counts = keeping.cache.counts()["readings"]
    assert (counts.hits, counts.misses, counts.entries) == (1, 1, 1)
    assert plain.cache.counts()["readings"].hits == 0
