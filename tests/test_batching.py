"""Several questions answered together: the same answers as one by one, for one pass over what they share."""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import pytest
import torch
from golden_data import golden_checkpoints
from tiny_families import FAMILIES, QWEN_CONFIGS, Ids, encode_noise, placeholder_ids, tiny_family

from sa2va_tools.errors import CancelledError
from sa2va_tools.model.device.cache import ByteCache
from sa2va_tools.model.device.memory_policy import CACHE_DROPPED, BatchSizes, MemoryPolicy
from sa2va_tools.model.families.kv_cache import copy_prefix, count_cache_bytes
from sa2va_tools.model.generation import batched, prefill
from sa2va_tools.model.generation.batched import generate_batch
from sa2va_tools.model.generation.decoding import generate
from sa2va_tools.model.generation.prefill import CachedPrefix
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.runtime.language import KV_PREFIX
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime
from sa2va_tools.model.text.prompts import Turn
from sa2va_tools.run import Run, RunStats

LIMIT = 10
QUESTIONS = [
    "<image>\nPlease segment the red square.",
    "<image>\nPlease segment the small blue circle on the left of the other one.",
    "<image>\nPlease segment it.",
    "<image>\n What is moving? Please respond with a segmentation mask.",
    "<image>\nPlease segment the red square that is there.",
]


class Model:
    """A tiny family with the features of a picture, which counts what its language model is fed."""

    def __init__(self, name):
        self.family = tiny_family(name)
        self.features = encode_noise(self.family)
        self.head = [1, 2, *placeholder_ids(self.features), 5]
        self.stats = RunStats()
        self.fed: list[tuple[int, int]] = []
        """(rows, tokens of each) of every pass."""
        self.fails = lambda rows, passes: False
        real = self.family.step

        def step(inputs, cache):
            rows, tokens = inputs.inputs_embeds.shape[:2]
            self.fed.append((rows, tokens))
            if self.fails(rows, len(self.fed)):
                raise torch.OutOfMemoryError("no room")
            return real(inputs, cache)

        self.family.step = step

    def prompts(self, head=None):
        return [[*(self.head if head is None else head), *own] for own in OWN]

    def embed(self, ids):
        return self.family.embed(torch.tensor([ids]), self.features, ())

    @torch.inference_mode()
    def one(self, ids, tokenizer=Ids(), **options):  # noqa: B008
        options = {"stop_words": (), "max_new_tokens": LIMIT, **options}
        return generate(self.family, tokenizer, self.embed(ids), ids, Run(), **options)[0]

    @torch.inference_mode()
    def all(self, prompts, tokenizer=Ids(), run=None, cache=None, **options):  # noqa: B008
        options = {"stop_words": (), "max_new_tokens": LIMIT, **options}
        policy = MemoryPolicy(cache or ByteCache(0), BatchSizes(), self.stats)
        return generate_batch(self.family, tokenizer, prompts, self.embed, run or Run(), policy, **options)

    def eventful_tokenizer(self, prompts):
        """Ends answers early, at as many lengths as possible, and finds `[SEG]` in them."""
        written = [self.one(ids).token_ids for ids in prompts]
        numbers = range(64)
        lengths = [{each.index(end) if end in each else LIMIT for each in written} for end in numbers]
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


def assert_same(ours, theirs):
    assert [each.token_ids for each in ours] == [each.token_ids for each in theirs]
    assert [each.truncated for each in ours] == [each.truncated for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.seg_hidden, other.seg_hidden, atol=1e-4, rtol=1e-4)


# ---- the same answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [30, 1024])
def test_answers_are_those_of_one_by_one(model, piece, monkeypatch):
    monkeypatch.setattr(prefill, "_PIECE_TOKENS", piece)
    prompts = model.prompts()
    tokenizer = model.eventful_tokenizer(prompts)
    alone = [model.one(ids, tokenizer) for ids in prompts]
    assert len({len(each.token_ids) for each in alone}) > 1
    assert any(len(each.seg_hidden) for each in alone)
    assert_same(model.all(prompts, tokenizer)[0], alone)


@pytest.mark.parametrize("name", ["llama", *QWEN_CONFIGS])
def test_prompts_that_differ_before_and_in_the_pictures(name):
    """Nothing shared at all; and the pictures in each row's own part."""
    model = Model(name)
    for heads in ([[9], [1, 2, 3], [4, 5]], [[1, 9], [1, 2, 3], [1, 5, 6, 7]]):
        prompts = [[*head, *placeholder_ids(model.features), 5, 6] for head in heads]
        assert_same(model.all(prompts)[0], [model.one(ids) for ids in prompts])


def test_a_prompt_that_another_one_begins_with_and_equal_ones(model):
    prompts = [[*model.head, 7, 8], [*model.head, 7], [*model.head, 7, 8]]
    assert_same(model.all(prompts)[0], [model.one(ids) for ids in prompts])


def test_a_cached_prefix_is_not_processed_again(model):
    prompts = model.prompts()
    alone = [model.one(ids) for ids in prompts]
    made, prefix = model.all(prompts)
    whole = sum(rows * tokens for rows, tokens in model.fed)
    few = len(model.head) - 3
    part = CachedPrefix(prefix.token_ids[:few], copy_prefix(prefix.cache, few))
    for cached in (prefix, part):
        model.fed.clear()
        again, _ = model.all(prompts, cached_prefix=cached)
        assert_same(again, alone)
        saved = len(model.head) if cached is prefix else few
        assert sum(rows * tokens for rows, tokens in model.fed) <= whole - saved
    assert made[0].token_ids == alone[0].token_ids


@torch.inference_mode()
def test_the_new_prefix_is_the_first_question_and_its_answer(model):
    prompts = model.prompts()
    made, prefix = model.all(prompts, model.eventful_tokenizer(prompts))
    assert prefix.token_ids == (*prompts[0], *made[0].token_ids[:-1])
    later = [*prefix.token_ids, made[0].token_ids[-1], 40, 41]
    expected = model.one(later)
    options = {"stop_words": (), "max_new_tokens": LIMIT, "cached_prefix": prefix}
    ours, after = generate(model.family, Ids(), model.embed(later), later, Run(), **options)
    assert_same([ours], [expected])
    before, behind = (count_cache_bytes(each.cache) for each in (prefix, after))
    assert before < behind


# ---- what it costs --------------------------------------------------------------------------------


def test_one_pass_writes_a_token_of_each_answer_and_the_ended_ones_leave(model):
    prompts = model.prompts()
    tokenizer = model.eventful_tokenizer(prompts)
    lengths = sorted(len(model.one(ids, tokenizer).token_ids) for ids in prompts)
    model.fed.clear()
    model.all(prompts, tokenizer)
    shared, own, *steps = model.fed
    assert shared == (1, len(model.head)) and own == (5, 8)
    assert len(steps) == lengths[-1] - 1
    assert [rows for rows, _ in steps] == [sum(n > at for n in lengths) for at in range(1, lengths[-1])]
    assert {tokens for _, tokens in steps} == {1}


def test_only_the_last_layers_states_are_returned(model):
    outputs = []
    model.family.language_model.register_forward_hook(lambda *call: outputs.append(call[-1]))
    inner = getattr(model.family.language_model, "model", model.family.language_model)
    inner.register_forward_hook(lambda *call: outputs.append(call[-1]))
    prompts = model.prompts()
    made, _ = model.all(prompts)
    model.one(prompts[0])
    assert outputs and not any(output.get("hidden_states") for output in outputs)
    assert all(each.seg_hidden.shape == (0, model.family.hidden_size) for each in made)


def test_rows_are_bounded(llama, monkeypatch):
    monkeypatch.setattr(batched, "ROW_BYTES", 1)
    prompts = llama.prompts()
    alone = [llama.one(ids) for ids in prompts]
    llama.fed.clear()
    assert_same(llama.all(prompts)[0], alone)
    assert max(rows for rows, _ in llama.fed) == 1
    assert llama.fed.count((1, len(llama.head))) == 1


# ---- short of memory ------------------------------------------------------------------------------


def test_out_of_memory_halves_the_rows(model):
    prompts = model.prompts()
    alone = [model.one(ids) for ids in prompts]
    model.fails = lambda rows, passes: rows > 2
    made, prefix = model.all(prompts)
    assert_same(made, alone)
    assert prefix.token_ids == (*prompts[0], *made[0].token_ids[:-1])


def test_the_cache_is_dropped_before_the_rows_are_halved(llama):
    prompts, counts, cache = llama.prompts(), [], ByteCache(10)
    cache.put("features", "a frame", "its features", 10)
    alone = [llama.one(ids) for ids in prompts]
    llama.fails = lambda rows, passes: rows > 3
    made, _ = llama.all(prompts, cache=cache, on_token=counts.append)
    assert_same(made, alone)
    assert cache.bytes == 0
    assert llama.stats.memory_fallbacks == [CACHE_DROPPED, "answers were generated in smaller batches"]
    assert counts[-1] == sum(len(each.token_ids) for each in alone)


def test_a_dropped_cache_may_be_enough(llama):
    cache = ByteCache(10)
    cache.put("features", "a frame", "its features", 10)
    llama.fails = lambda rows, passes: rows > 1 and cache.bytes > 0
    llama.all(llama.prompts(), cache=cache)
    assert llama.stats.memory_fallbacks == [CACHE_DROPPED]


def test_the_librarys_error_is_raised_when_a_single_row_does_not_fit(llama):
    llama.fails = lambda rows, passes: rows > 1 or passes > 4
    with pytest.raises(torch.OutOfMemoryError):
        llama.all(llama.prompts())


# ---- cancelling -----------------------------------------------------------------------------------


def test_a_cancel_is_noticed_before_the_next_pass(model):
    run, counts = Run(), []

    def on_token(count):
        counts.append(count)
        if len(counts) == 3:
            run.cancel()

    with pytest.raises(CancelledError):
        model.all(model.prompts(), run=run, on_token=on_token)
    assert counts == [5, 10, 15] and len(model.fed) == 2 + 2
    assert model.all(model.prompts())[0][0].token_ids == model.one(model.prompts()[0]).token_ids


@pytest.mark.parametrize("passes", range(1, 6))
def test_a_cancel_is_noticed_between_the_pieces_of_a_prompt(llama, passes, monkeypatch):
    monkeypatch.setattr(prefill, "_PIECE_TOKENS", 10)
    run = Run()
    llama.fails = lambda rows, done: done == passes and run.cancel()
    with pytest.raises(CancelledError):
        llama.all(llama.prompts(), run=run)
    assert len(llama.fed) == passes


# ---- through the runtime --------------------------------------------------------------------------


def _checkpoints():
    found = {"nano": NANO_FOLDER, **golden_checkpoints()}
    return [pytest.param(folder, id=name) for name, folder in found.items()]


@lru_cache(maxsize=1)
def _checkpoint(folder):
    return Sa2vaRuntime.load(folder, device="cpu", dtype="float32").checkpoint


@contextmanager
def _language(cache_bytes, folder=NANO_FOLDER, run=None):
    runtime = Sa2vaRuntime(_checkpoint(folder), "nano", cache_bytes=cache_bytes)
    with runtime.session(run or Run()) as session:
        yield session.language


def _encode(language, *, video):
    return language.get_image_features(lambda: [_picture()], video=video, key="picture")


def _picture():
    picture = np.full((60, 80, 3), 120, np.uint8)
    picture[10:30, 10:30], picture[35:50, 50:70] = (220, 30, 30), (30, 30, 220)
    return picture


@pytest.mark.parametrize("folder", _checkpoints())
def test_every_checkpoint_answers_as_one_by_one(folder):
    past = [Turn("<image>\nIs there a red square?", "Yes.")]
    with _language(2**30, folder) as caching, _language(0, folder) as plain:
        features = _encode(caching, video=True)
        alone = [caching.answer(each, features, history=past, max_new_tokens=8) for each in QUESTIONS[:4]]
        for language in (caching, plain):
            together = language.answer_all(QUESTIONS[:4], features, history=past, max_new_tokens=8)
            for one, other in zip(together, alone, strict=True):
                assert (one.token_ids, one.prompt_ids) == (other.token_ids, other.prompt_ids)
                assert (one.text, one.truncated) == (other.text, other.truncated)
                np.testing.assert_allclose(one.seg_prompts, other.seg_prompts, atol=1e-4)


def test_a_conversation_continues_after_several_answers(monkeypatch):
    """The next prompt begins with the first question and its answer; only the rest of it is processed."""
    runtime = Sa2vaRuntime(_checkpoint(NANO_FOLDER), "nano", cache_bytes=2**30)
    fed: list[int] = []
    mllm = runtime.checkpoint.modules.mllm
    step = mllm.step

    def count_step(inputs, cache):
        fed.append(inputs.inputs_embeds.shape[1])
        return step(inputs, cache)

    with runtime.session(Run()) as session:
        language = session.language
        features = _encode(language, video=False)
        answers = language.answer_all(QUESTIONS[:3], features)
        past = [Turn(question, answer.text) for question, answer in zip(QUESTIONS, answers, strict=False)]
        with monkeypatch.context() as patched:
            patched.setattr(mllm, "step", count_step)
            later = language.answer("And what is it?", features, history=past)
    known = len(answers[0].prompt_ids) + len(answers[0].token_ids) - 1
    assert fed[0] == len(later.prompt_ids) - known
    counts = runtime.cache.counts()[KV_PREFIX]
    assert (counts.hits, counts.misses, counts.entries) == (1, 1, 1)
    assert counts.bytes == sum(
        each.numel() * each.element_size()
        for layer in runtime.cache.get(KV_PREFIX, ("picture", ())).cache.layers
        for each in (layer.keys, layer.values)
    )
    with _language(0) as plain:
        assert plain.answer("And what is it?", features, history=past).token_ids == later.token_ids


@pytest.mark.parametrize("count", [1, 3])
def test_a_cancelled_run_ends_and_the_next_one_answers(count):
    counts = []

    def on_progress(report):
        if report.stage == "answer":
            counts.append(report.done)
            run.cancel()

    run = Run(on_progress)
    runtime = Sa2vaRuntime(_checkpoint(NANO_FOLDER), "nano", cache_bytes=2**30)
    with pytest.raises(CancelledError), runtime.session(run) as session:
        features = _encode(session.language, video=False)
        session.language.answer_all(QUESTIONS[:count], features)
    assert counts == [count]
    with runtime.session(Run()) as session:
        assert len(session.language.answer_all(QUESTIONS[:count], features)) == count
