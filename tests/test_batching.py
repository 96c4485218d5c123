"""Several questions answered together: the same answers as one by one, for one reading of what they share."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_families import FAMILIES, QWEN_CONFIGS, Ids, look_at_noise, places, tiny_family

from sa2va_tools.errors import CancelledError, OutOfMemoryError
from sa2va_tools.model import batching, reading
from sa2va_tools.model.batching import generate_all
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.generation import generate
from sa2va_tools.model.prompt import Turn
from sa2va_tools.model.reading import Read
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.progress import CancelToken

GOLDEN = Path(os.environ.get("SA2VA_GOLDEN") or Path(__file__).parents[1].parent / "shared" / "golden")
MOST = 10
QUESTIONS = [
    "<image>\nPlease segment the red square.",
    "<image>\nPlease segment the small blue circle on the left of the other one.",
    "<image>\nPlease segment it.",
    "<image>\n What is moving? Please respond with a segmentation mask.",
    "<image>\nPlease segment the red square that is there.",
]


class Model:
    """A tiny family that has looked at a picture, and counts what its language model is fed."""

    def __init__(self, name):
        self.family = tiny_family(name)
        self.visual = look_at_noise(self.family)
        self.head = [1, 2, *places(self.visual), 5]
        self.fed: list[tuple[int, int]] = []
        """(rows, tokens of each) of every pass."""
        self.fails = lambda rows, passes: False
        real = self.family.step_all

        def step_all(read, states):
            self.fed.append(tuple(read.tokens.shape[:2]))
            if self.fails(read.tokens.shape[0], len(self.fed)):
                raise torch.OutOfMemoryError("no room")
            return real(read, states)

        self.family.step_all = step_all

    def prompts(self, head=None):
        return [[*(self.head if head is None else head), *own] for own in OWN]

    def embed(self, ids):
        return self.family.embed(torch.tensor([ids]), self.visual, ())

    @torch.inference_mode()
    def one(self, ids, tokenizer=Ids(), **options):  # noqa: B008
        options = {"stop_words": (), "max_new_tokens": MOST, **options}
        return generate(self.family, tokenizer, self.embed(ids), ids, **options)[0]

    @torch.inference_mode()
    def all(self, prompts, tokenizer=Ids(), **options):  # noqa: B008
        options = {"stop_words": (), "max_new_tokens": MOST, **options}
        return generate_all(self.family, tokenizer, prompts, self.embed, **options)

    def eventful(self, prompts):
        """A tokenizer that ends answers early, at as many lengths as possible, and finds marks in them."""
        written = [self.one(ids).token_ids for ids in prompts]
        numbers = range(64)
        lengths = [{each.index(end) if end in each else MOST for each in written} for end in numbers]
        end = max(numbers, key=lambda number: len(lengths[number]))
        left = [each[: each.index(end)] if end in each else each[:-1] for each in written]
        mark = max(numbers, key=lambda number: sum(number in each for each in left))
        return Ids(seg_id=mark, eos_id=end)


OWN = [[7], [8, 9, 10, 11, 12, 13, 14, 15], [7, 9, 10], [21, 22, 23, 24, 25], [30, 31]]


@pytest.fixture(params=FAMILIES)
def model(request):
    return Model(request.param)


@pytest.fixture
def llama():
    return Model("llama")


def same(ours, theirs):
    assert [each.token_ids for each in ours] == [each.token_ids for each in theirs]
    assert [each.truncated for each in ours] == [each.truncated for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.seg_hidden, other.seg_hidden, atol=1e-4, rtol=1e-4)


# ---- the same answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [30, 1024])
def test_answers_are_those_of_one_by_one(model, piece, monkeypatch):
    monkeypatch.setattr(reading, "_PIECE", piece)
    prompts = model.prompts()
    tokenizer = model.eventful(prompts)
    alone = [model.one(ids, tokenizer) for ids in prompts]
    assert len({len(each.token_ids) for each in alone}) > 1
    assert any(len(each.seg_hidden) for each in alone)
    same(model.all(prompts, tokenizer)[0], alone)


@pytest.mark.parametrize("name", ["llama", *QWEN_CONFIGS])
def test_prompts_that_differ_before_and_in_the_pictures(name):
    """Nothing shared at all; and the pictures in each row's own part."""
    model = Model(name)
    for heads in ([[9], [1, 2, 3], [4, 5]], [[1, 9], [1, 2, 3], [1, 5, 6, 7]]):
        prompts = [[*head, *places(model.visual), 5, 6] for head in heads]
        same(model.all(prompts)[0], [model.one(ids) for ids in prompts])


def test_a_prompt_that_another_one_begins_with_and_equal_ones(model):
    prompts = [[*model.head, 7, 8], [*model.head, 7], [*model.head, 7, 8]]
    same(model.all(prompts)[0], [model.one(ids) for ids in prompts])


def test_what_was_read_before_is_not_read_again(model):
    prompts = model.prompts()
    alone = [model.one(ids) for ids in prompts]
    made, read = model.all(prompts)
    whole = sum(rows * tokens for rows, tokens in model.fed)
    few = len(model.head) - 3
    for before in (read, Read(read.token_ids[:few], model.family.copied(read.states, few))):
        model.fed.clear()
        again, _ = model.all(prompts, before=before)
        same(again, alone)
        saved = len(model.head) if before is read else few
        assert sum(rows * tokens for rows, tokens in model.fed) <= whole - saved
    assert made[0].token_ids == alone[0].token_ids


@torch.inference_mode()
def test_what_was_read_is_the_first_question_and_its_answer(model):
    prompts = model.prompts()
    made, read = model.all(prompts, model.eventful(prompts))
    assert read.token_ids == (*prompts[0], *made[0].token_ids[:-1])
    later = [*read.token_ids, made[0].token_ids[-1], 40, 41]
    expected = model.one(later)
    options = {"stop_words": (), "max_new_tokens": MOST, "before": read}
    ours, after = generate(model.family, Ids(), model.embed(later), later, **options)
    same([ours], [expected])
    assert model.family.cache_bytes(read.states) < model.family.cache_bytes(after.states)


# ---- what it costs --------------------------------------------------------------------------------


def test_one_pass_writes_a_token_of_each_answer_and_the_ended_ones_leave(model):
    prompts = model.prompts()
    tokenizer = model.eventful(prompts)
    lengths = sorted(len(model.one(ids, tokenizer).token_ids) for ids in prompts)
    model.fed.clear()
    model.all(prompts, tokenizer)
    shared, own, *steps = model.fed
    assert shared == (1, len(model.head)) and own == (5, 8)
    assert len(steps) == lengths[-1] - 1
    assert [rows for rows, _ in steps] == [sum(n > at for n in lengths) for at in range(1, lengths[-1])]
    assert {tokens for _, tokens in steps} == {1}


def test_only_the_last_layers_states_come_out(model):
    outputs = []
    model.family.language_model.register_forward_hook(lambda *call: outputs.append(call[-1]))
    inner = getattr(model.family.language_model, "model", model.family.language_model)
    inner.register_forward_hook(lambda *call: outputs.append(call[-1]))
    prompts = model.prompts()
    made, _ = model.all(prompts)
    model.one(prompts[0])
    assert outputs and not any(output.get("hidden_states") for output in outputs)
    assert all(each.seg_hidden.shape == (0, model.family.hidden_size) for each in made)


@pytest.mark.parametrize(("name", "value", "rows"), [("MOST_ROWS", 2, 2), ("ROW_BYTES", 1, 1)])
def test_rows_are_bounded(llama, monkeypatch, name, value, rows):
    monkeypatch.setattr(batching, name, value)
    prompts = llama.prompts()
    alone = [llama.one(ids) for ids in prompts]
    llama.fed.clear()
    same(llama.all(prompts)[0], alone)
    assert max(each for each, _ in llama.fed) == rows
    assert llama.fed.count((1, len(llama.head))) == 1


# ---- short of memory ------------------------------------------------------------------------------


def test_out_of_memory_halves_the_rows_and_goes_on(model):
    prompts = model.prompts()
    alone = [model.one(ids) for ids in prompts]
    model.fails = lambda rows, passes: rows > 2
    made, read = model.all(prompts)
    same(made, alone)
    assert read.token_ids == (*prompts[0], *made[0].token_ids[:-1])


def test_what_was_finished_before_memory_ran_out_is_not_asked_again(llama):
    prompts = llama.prompts()
    tokenizer = llama.eventful(prompts)
    alone = [llama.one(ids, tokenizer) for ids in prompts]
    finished = min(range(5), key=lambda number: len(alone[number].token_ids))
    steps = len(alone[finished].token_ids)
    asked = []
    embed = llama.embed
    llama.embed = lambda ids: asked.append(prompts.index(ids)) or embed(ids)
    llama.fed.clear()
    # Two passes read; the pass after the shortest answer's last token fails.
    llama.fails = lambda rows, passes: rows > 2 and passes > steps + 1
    same(llama.all(prompts, tokenizer)[0], alone)
    asked = asked[1:]  # the first one, for what is shared
    assert asked[:5] == [0, 1, 2, 3, 4] and len(asked) > 5
    again = asked[5:]
    assert finished not in again and set(again) < set(range(5))


def test_what_is_kept_goes_before_the_rows_are_halved(llama):
    prompts, kept, fewer, told = llama.prompts(), ["another reading"], [], []
    alone = [llama.one(ids) for ids in prompts]
    llama.fails = lambda rows, passes: rows > 3 and (bool(kept) or (len(fewer) == 0 and passes > 9))

    def make_room():
        return bool(kept) and bool(kept.pop())

    made, _ = llama.all(prompts, make_room=make_room, on_fewer=fewer.append, on_token=told.append)
    same(made, alone)
    assert not kept and fewer == [2]
    assert told == sorted(told), "what was begun anew is not counted down"


def test_when_a_single_row_does_not_fit_it_is_said(llama):
    llama.fails = lambda rows, passes: rows > 1 or passes > 4
    with pytest.raises(torch.OutOfMemoryError):
        llama.all(llama.prompts())


# ---- cancelling -----------------------------------------------------------------------------------


def test_a_cancel_is_heard_before_the_next_pass(model):
    cancel, counts = CancelToken(), []

    def on_token(count):
        counts.append(count)
        if len(counts) == 3:
            cancel.cancel()

    with pytest.raises(CancelledError):
        model.all(model.prompts(), cancel=cancel, on_token=on_token)
    assert counts == [5, 10, 15] and len(model.fed) == 2 + 2
    assert model.all(model.prompts())[0][0].token_ids == model.one(model.prompts()[0]).token_ids


@pytest.mark.parametrize("passes", range(1, 6))
def test_a_cancel_is_heard_between_the_pieces_that_are_read(llama, passes, monkeypatch):
    monkeypatch.setattr(reading, "_PIECE", 10)
    cancel = CancelToken()
    llama.fails = lambda rows, done: done == passes and cancel.cancel()
    with pytest.raises(CancelledError):
        llama.all(llama.prompts(), cancel=cancel)
    assert len(llama.fed) == passes


# ---- through the runtime --------------------------------------------------------------------------


def _checkpoints():
    found = {"nano": NANO_FOLDER}
    for file in sorted(GOLDEN.rglob("cases.json")):
        found[file.parent.name] = file.parent / "checkpoint"
    return [pytest.param(folder, id=name) for name, folder in found.items()]


@lru_cache(maxsize=1)
def _loaded(folder):
    return Sa2vaRuntime.load(folder, device="cpu", dtype="float32", threads=1)._loaded


def _picture():
    picture = np.full((60, 80, 3), 120, np.uint8)
    picture[10:30, 10:30], picture[35:50, 50:70] = (220, 30, 30), (30, 30, 220)
    return picture


@pytest.mark.parametrize("folder", _checkpoints())
def test_every_checkpoint_answers_as_one_by_one(folder):
    keeping, plain = (Sa2vaRuntime(_loaded(folder), "it", cache_bytes=budget) for budget in (2**30, 0))
    visual = keeping.look([_picture()], video=True, key="picture")
    past = [Turn("<image>\nIs there a red square?", "Yes.")]
    alone = [keeping.answer(each, visual, history=past, max_new_tokens=8) for each in QUESTIONS[:4]]
    for runtime in (keeping, plain):
        together = runtime.answer_all(QUESTIONS[:4], visual, history=past, max_new_tokens=8)
        for one, other in zip(together, alone, strict=True):
            assert (one.token_ids, one.prompt_ids) == (other.token_ids, other.prompt_ids)
            assert (one.text, one.truncated) == (other.text, other.truncated)
            np.testing.assert_allclose(one.seg_prompts, other.seg_prompts, atol=1e-4)


def test_a_conversation_goes_on_after_several_answers():
    """The next prompt begins with the first question and its answer; it pays for the rest."""
    runtime = Sa2vaRuntime(_loaded(NANO_FOLDER), "nano", cache_bytes=2**30)
    visual = runtime.look([_picture()], video=False, key="picture")
    answers = runtime.answer_all(QUESTIONS[:3], visual)
    past = [Turn(question, answer.text) for question, answer in zip(QUESTIONS, answers, strict=False)]
    fed: list[int] = []
    step = runtime._modules.mllm.step
    runtime._modules.mllm.step = lambda read, cache: fed.append(read.tokens.shape[1]) or step(read, cache)
    try:
        later = runtime.answer("And what is it?", visual, history=past)
    finally:
        del runtime._modules.mllm.step
    known = len(answers[0].prompt_ids) + len(answers[0].token_ids) - 1
    assert fed[0] == len(later.prompt_ids) - known
    counts = runtime.cache.counts()["readings"]
    assert (counts.hits, counts.misses, counts.entries) == (1, 1, 1)
    assert counts.bytes == sum(
        each.numel() * each.element_size()
        for layer in runtime.cache.get("readings", ("picture", ())).states.layers
        for each in (layer.keys, layer.values)
    )
    plain = Sa2vaRuntime(_loaded(NANO_FOLDER), "plain")
    assert plain.answer("And what is it?", visual, history=past).token_ids == later.token_ids


@pytest.mark.parametrize("count", [1, 3])
def test_the_runtime_stops_when_told_and_answers_again(count):
    runtime = Sa2vaRuntime(_loaded(NANO_FOLDER), "nano", cache_bytes=2**30)
    visual = runtime.look([_picture()], video=False, key="picture")
    cancel, counts = CancelToken(), []

    def on_token(tokens):
        counts.append(tokens)
        cancel.cancel()

    with pytest.raises(CancelledError):
        runtime.answer_all(QUESTIONS[:count], visual, cancel=cancel, on_token=on_token)
    assert counts == [count]
    assert len(runtime.answer_all(QUESTIONS[:count], visual)) == count
    assert runtime.answer_all([], visual) == []


def test_out_of_memory_is_told_in_our_words(monkeypatch):
    runtime = Sa2vaRuntime(_loaded(NANO_FOLDER), "nano")
    visual = runtime.look([_picture()], video=False)

    def full(read, states):
        raise torch.OutOfMemoryError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(runtime._modules.mllm, "step_all", full)
        with pytest.raises(OutOfMemoryError, match="answers"):
            runtime.answer_all(QUESTIONS, visual)
    assert len(runtime.answer_all(QUESTIONS, visual)) == len(QUESTIONS)
