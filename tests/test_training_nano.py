"""The parts of the nano's training: packed turns equal single ones, losses fall, a checkpoint is what was
trained."""

from __future__ import annotations

import random

import pytest
import torch

from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.model.text.prompts import find_template, region_tokens
from sa2va_tools.model.text.tokenizer import load_tokenizer
from sa2va_tools.nano.course.dense import dense_losses, dense_targets, encode_frames
from sa2va_tools.nano.course.grounding_data import sample_codes, sample_grounding_batch
from sa2va_tools.nano.course.grounding_stage import MASK_LOSS_WEIGHTS, track_losses
from sa2va_tools.nano.course.language_batch import run_mllm, sample_language_batch
from sa2va_tools.nano.course.language_loss import LanguageLoss
from sa2va_tools.nano.course.mllm_stages import segment_loss
from sa2va_tools.nano.course.nano_model import build_nano, save_nano
from sa2va_tools.nano.course.samples import Packer, region_cells
from sa2va_tools.nano.course.tokenizer import save_tokenizer
from sa2va_tools.nano.world.rendering import sample_clip
from sa2va_tools.nano.world.sampling import SceneRecipe
from sa2va_tools.nano.world.scenes import COLOURS, SHAPES
from sa2va_tools.run import Run
from sa2va_tools.training.device import CPU, single_thread
from sa2va_tools.training.optimizers import muon_and_adamw
from sa2va_tools.training.packing import IGNORED


@pytest.fixture(scope="module")
def nano():
    return build_nano(seed=0)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with single_thread():
        yield


# ---- tokens and packing ---------------------------------------------------------------------------


def test_words_of_the_world_are_single_tokens_and_any_text_survives(nano):
    for word in (*COLOURS, *SHAPES):
        assert len(nano.tokenizer.encode(f" {word}").ids) == 1
    for text in ("Żółty króliczek, 黄色い 🐇!", "Sure, it is [SEG].", "\tfoo\r\nbar  baz"):
        ids = nano.tokenizer.encode(text).ids
        assert nano.tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("video", [False, True])
def test_packed_turns_equal_prompts_of_single_turns(nano, video, tmp_path):
    save_tokenizer(nano.tokenizer, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    mllm = nano.model.mllm.eval()
    mllm.image_token_id = tokenizer.image_id
    packer = Packer(nano.tokenizer)
    batch = sample_language_batch(random.Random(5), packer, video=video, clips=2, turns=6)
    turn_numbers = batch.packed.tokens.turn_numbers
    with torch.no_grad():
        output = run_mllm(mllm, batch)
        for row, sample in enumerate(batch.samples):
            features = mllm.get_image_features(list(sample.clip.frames_thwc), video=video, run=Run())
            for number, turn in enumerate(sample.turns):
                cells = [region_cells(sample.clip.mask_hw(index)) for index in turn.regions]
                pictures = mllm.placeholders(features)
                pictures += region_tokens([len(each) for each in cells]) if cells else ""
                prompt = find_template("qwen_chat").text(turn.question, pictures)
                ids = tokenizer.encode(prompt)
                question = packer.encode_question(turn, sample.clip).text.ids
                assert ids == packer.encode_prefix(len(batch.moments)).ids + question
                inputs = mllm.embed(torch.tensor([ids]), features, cells)
                single = mllm.step(inputs, mllm.new_cache()).hidden_states[0, -len(question) :]
                packed = output.hidden[row][turn_numbers[row] == number][: len(question)]
                assert torch.allclose(packed, single, atol=1e-4)


def test_the_last_word_of_a_name_in_a_question_is_marked(nano):
    packer = Packer(nano.tokenizer)
    batch = sample_language_batch(
        random.Random(4), packer, video=False, clips=6, turns=4, tasks=("attribute",)
    )
    ids = batch.packed.tokens.ids
    marked = {
        (row, nano.tokenizer.decode([int(ids[row, position])]).strip(), index)
        for row, position, index in batch.packed.mentions.tolist()
    }
    for row, sample in enumerate(batch.samples):
        for turn in sample.turns:
            assert (row, turn.subject.split()[-1], turn.mentions[0][1]) in marked


def test_no_label_is_excluded(nano):
    packer = Packer(nano.tokenizer)
    batch = sample_language_batch(random.Random(8), packer, video=False, clips=12, turns=8)
    excluded = batch.packed.excluded
    labels = batch.packed.tokens.labels
    assert (excluded >= 0).sum() > 20
    assert not ((excluded == labels) & (labels != IGNORED)).any()


# ---- losses ---------------------------------------------------------------------------------------


def train_for(steps: int, compute_loss, optimizers) -> tuple[float, float]:
    """The first and the last loss."""
    losses = []
    for _ in range(steps):
        loss = compute_loss()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


def test_a_batch_without_named_colours_has_a_finite_loss(nano):
    clips = [sample_clip(random.Random(3), SceneRecipe(unnamed_share=1.0))]
    patches, tokens = encode_frames(nano.model.mllm, clips)
    total, _ = dense_losses(nano.heads, patches, tokens, dense_targets(clips, (0.0,)), shape_weight=1)
    assert torch.isfinite(total)


def test_the_vision_loss_falls(nano):
    clips = [sample_clip(random.Random(seed), SceneRecipe()) for seed in range(4)]
    targets = dense_targets(clips, (0.0,))

    def compute_loss():
        patches, tokens = encode_frames(nano.model.mllm, clips)
        return dense_losses(nano.heads, patches, tokens, targets, shape_weight=1)[0]

    modules = {"mllm": nano.model.mllm, "heads": nano.heads}
    first, last = train_for(8, compute_loss, muon_and_adamw(modules, muon_rate=0.01, adamw_rate=1e-3))
    assert last < 0.75 * first


@pytest.mark.parametrize("video", [False, True])
def test_the_language_loss_falls(video):
    nano = build_nano(seed=1)
    language_loss = LanguageLoss(nano)
    batch = sample_language_batch(random.Random(1), Packer(nano.tokenizer), video=video, clips=2, turns=5)

    def compute_loss():
        return language_loss(batch, run_mllm(nano.model.mllm, batch), dense=True).total

    modules = {"model": nano.model, "heads": nano.heads}
    first, last = train_for(8, compute_loss, muon_and_adamw(modules, muon_rate=0.02, adamw_rate=2e-3))
    assert last < 0.8 * first


def test_the_mask_loss_falls_and_reaches_the_language_model():
    nano = build_nano(seed=2)
    model = nano.model
    language_loss = LanguageLoss(nano)
    batch = sample_language_batch(
        random.Random(1), Packer(nano.tokenizer), video=False, clips=2, turns=3, tasks=("refer",)
    )

    def compute_loss():
        prompts = language_loss(batch, run_mllm(model.mllm, batch), dense=False).seg_prompts
        return segment_loss(model, batch, prompts, random.Random(0)).total(MASK_LOSS_WEIGHTS)

    compute_loss().backward()
    gradient = model.mllm.language_model.model.layers[0].mlp.gate_proj.weight.grad
    assert gradient is not None and gradient.abs().max() > 0
    first, last = train_for(6, compute_loss, [torch.optim.AdamW(model.parameters(), lr=1e-3)])
    assert last < 0.9 * first


@pytest.mark.parametrize(("from_masks", "prompt_frames"), [(False, [0]), (False, [0, 2]), (True, [0])])
def test_gradients_reach_the_memory_through_all_frames(from_masks, prompt_frames):
    sam2 = build_nano(seed=3).model.sam2
    recipe = SceneRecipe(video=True)
    batch = sample_grounding_batch(random.Random(2), recipe, clips=2, moments=(0, 0.1, 0.2), slots=2)
    noise = torch.Generator().manual_seed(0)
    losses = track_losses(sam2, batch, noise, prompt_frames=prompt_frames, from_masks=from_masks)
    assert len(losses) == (2 if from_masks else 3)
    losses[-1].total(MASK_LOSS_WEIGHTS).backward()
    for part in (sam2.memory_encoder, sam2.memory_attention, sam2.mask_decoder):
        assert max(p.grad.abs().max() for p in part.parameters() if p.grad is not None) > 0


def test_noisy_codes_repeat_with_the_seed():
    batch = sample_grounding_batch(random.Random(2), SceneRecipe(), clips=3, moments=(0.0,), slots=2)
    one, same, other = (sample_codes(batch, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5))
    assert torch.equal(one, same) and not torch.equal(one, other)


# ---- checkpoints ----------------------------------------------------------------------------------


def test_a_saved_model_is_small_and_loads_as_it_was(nano, tmp_path):
    save_nano(nano, tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10e6
    loaded = load_checkpoint(tmp_path, devices=(CPU,), dtype=torch.float32, run=Run())
    assert (loaded.config.prompt_frames, loaded.config.llm_frames) == (1, 5)
    parameters = dict(loaded.modules.named_parameters())
    for name, parameter in nano.model.named_parameters():
        assert torch.equal(parameters[name], parameter.half().float()), name
