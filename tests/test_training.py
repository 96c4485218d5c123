"""Training: packed turns equal single ones, losses fall, what is saved is what was trained."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.model.prompt import chat_text, region_tokens, template_named
from sa2va_tools.model.tokenizer import load_tokenizer
from sa2va_tools.training.dense_heads import dense_losses, dense_targets
from sa2va_tools.training.grounding_data import grounding_batch
from sa2va_tools.training.grounding_stage import taught, track_losses
from sa2va_tools.training.joint_stage import mask_losses
from sa2va_tools.training.language_losses import LanguageLoss, language_batch, read
from sa2va_tools.training.language_stage import probe
from sa2va_tools.training.losses import mask_loss, text_loss, without
from sa2va_tools.training.nano_stages import build, export
from sa2va_tools.training.optimizers import Muon, muon_and_adamw, orthogonalised
from sa2va_tools.training.packing import IGNORED, Packer, region_cells
from sa2va_tools.training.rendering import sample_clip
from sa2va_tools.training.tokenizer import save_tokenizer
from sa2va_tools.training.vision_stage import see
from sa2va_tools.training.world import COLOURS, SHAPES, SceneRecipe


@pytest.fixture(scope="module")
def parts():
    return build(seed=0)


@pytest.fixture(scope="module", autouse=True)
def one_core():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---- tokens and packing ---------------------------------------------------------------------------


def test_world_words_are_single_tokens_and_any_text_survives(parts):
    for word in (*COLOURS, *SHAPES):
        assert len(parts.tokenizer.encode(f" {word}").ids) == 1
    for text in ("Żółty króliczek, 黄色い 🐇!", "Sure, it is [SEG].", "\tfoo\r\nbar  baz"):
        ids = parts.tokenizer.encode(text).ids
        assert parts.tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("video", [False, True])
def test_packed_turns_are_what_the_prompt_builder_makes(parts, video, tmp_path):
    save_tokenizer(parts.tokenizer, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    family = parts.model.mllm.eval()
    family.image_token_id = tokenizer.image_id
    packer = Packer(parts.tokenizer)
    batch = language_batch(random.Random(5), packer, video=video, clips=2, turns=6)
    with torch.no_grad():
        output = read(family, batch)
        for row, sample in enumerate(batch.samples):
            visual = family.look(list(sample.clip.frames_thwc), video=video)
            for number, turn in enumerate(sample.turns):
                cells = [region_cells(sample.clip.mask_hw(i)) for i in turn.regions]
                pictures = family.placeholders(visual)
                pictures += region_tokens([len(c) for c in cells]) if cells else ""
                text = chat_text(template_named("qwen_chat"), turn.question, pictures)
                ids = tokenizer.encode(text)
                question, _, _ = packer.question(turn, sample.clip)
                assert ids == packer.prefix(len(batch.moments)) + question
                alone = family.step(family.embed(torch.tensor([ids]), visual, cells), family.new_cache())
                packed = output.hidden[row][batch.packed.turn_of_token[row] == number][: len(question)]
                assert torch.allclose(packed, alone.hidden[-len(question) :], atol=1e-4)


def test_the_last_word_of_a_name_is_marked_in_the_question(parts):
    tokenizer = parts.tokenizer
    batch = language_batch(
        random.Random(4), Packer(tokenizer), video=False, clips=6, turns=4, tasks=("attribute",)
    )
    marked = {
        (row, tokenizer.decode([int(batch.packed.ids[row, place])]).strip(), thing)
        for row, place, thing in batch.packed.mentions.tolist()
    }
    for row, sample in enumerate(batch.samples):
        for turn in sample.turns:
            assert (row, turn.subject.split()[-1], turn.mentions[0][1]) in marked


def test_no_label_is_its_own_kept_word(parts):
    batch = language_batch(random.Random(8), Packer(parts.tokenizer), video=False, clips=12, turns=8)
    kept, labels = batch.packed.kept, batch.packed.labels
    assert (kept >= 0).sum() > 20
    assert not ((kept == labels) & (labels != IGNORED)).any()


# ---- losses ---------------------------------------------------------------------------------------


def test_a_perfect_mask_costs_next_to_nothing_and_its_opposite_much():
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:6, 2:6] = 1
    logits = (target * 2 - 1)[:, :, None] * 20
    valid = torch.ones(1, 1, dtype=torch.bool)
    good = mask_loss(logits, torch.ones(1, 1, 1), torch.full((1, 1, 1), 9.0), target, valid)
    bad = mask_loss(-logits, torch.ones(1, 1, 1), torch.full((1, 1, 1), -9.0), target, valid)
    assert good.total < 0.05 and good.iou_reached == 1
    assert bad.total > 100 and bad.iou_reached == 0


def test_unused_slots_cost_nothing():
    target = torch.rand(1, 2, 8, 8).round()
    logits = torch.randn(1, 2, 3, 8, 8)
    valid = torch.tensor([[True, False]])
    loss = mask_loss(logits, torch.rand(1, 2, 3), torch.zeros(1, 2, 1), target, valid)
    logits[:, 1] = 50
    again = mask_loss(logits, torch.rand(1, 2, 3), torch.zeros(1, 2, 1), target, valid)
    assert loss.bce == again.bce and loss.dice == again.dice


def test_text_loss_hears_content_words_more():
    logits = torch.zeros(2, 5)
    logits[0, 1] = 8
    weights = torch.tensor([0.15, 1.0, 1, 1, 1])
    nobody = torch.full((2,), -1)
    content_right, right = text_loss(logits, torch.tensor([1, 0]), nobody, weights, torch.ones(2))
    content_wrong, wrong = text_loss(logits.flip(0), torch.tensor([1, 0]), nobody, weights, torch.ones(2))
    assert content_right < content_wrong and (right, wrong) == (1, 0)


def test_a_kept_choice_gets_no_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    choices = torch.tensor([2, -1, 0])
    nn.functional.cross_entropy(without(logits, choices), torch.tensor([1, 1, 1])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 2] == 0 and logits.grad[2, 0] == 0 and (logits.grad[1] != 0).all()


def falls(module_step, optimizers, steps: int) -> tuple[float, float]:
    losses = []
    for _ in range(steps):
        loss = module_step()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


def test_a_batch_without_named_colours_still_teaches(parts):
    clips = [sample_clip(random.Random(3), SceneRecipe(unnamed_share=1.0))]
    total, _ = dense_losses(
        parts.heads, *see(parts.model.mllm, clips), dense_targets(clips, (0.0,)), shape_weight=1
    )
    assert torch.isfinite(total)


def test_the_vision_loss_falls(parts):
    clips = [sample_clip(random.Random(k), SceneRecipe()) for k in range(4)]
    targets = dense_targets(clips, (0.0,))
    modules = {"mllm": parts.model.mllm, "heads": parts.heads}
    first, last = falls(
        lambda: dense_losses(parts.heads, *see(parts.model.mllm, clips), targets, shape_weight=1)[0],
        muon_and_adamw(modules, muon_rate=0.01, adamw_rate=1e-3),
        8,
    )
    assert last < 0.75 * first


@pytest.mark.parametrize("video", [False, True])
def test_the_language_loss_falls(video):
    parts = build(seed=1)
    loss_of = LanguageLoss(parts.model.mllm, parts.model.text_hidden_fcs, parts.heads, parts.tokenizer)
    packer = Packer(parts.tokenizer)
    batch = language_batch(random.Random(1), packer, video=video, clips=2, turns=5)
    modules = {"model": parts.model, "heads": parts.heads}
    first, last = falls(
        lambda: loss_of(batch, read(parts.model.mllm, batch), dense=True)[0],
        muon_and_adamw(modules, muon_rate=0.02, adamw_rate=2e-3),
        8,
    )
    assert last < 0.8 * first


def test_the_mask_losses_fall_and_reach_the_language_model():
    parts = build(seed=2)
    model = parts.model
    loss_of = LanguageLoss(model.mllm, model.text_hidden_fcs, parts.heads, parts.tokenizer)
    batch = language_batch(
        random.Random(1), Packer(parts.tokenizer), video=False, clips=2, turns=3, tasks=("refer",)
    )

    def step():
        prompts = loss_of(batch, read(model.mllm, batch), dense=False)[2]
        return mask_losses(model, batch, prompts, random.Random(0)).total

    step().backward()
    gradient = model.mllm.language_model.model.layers[0].mlp.gate_proj.weight.grad
    assert gradient is not None and gradient.abs().max() > 0
    first, last = falls(step, [torch.optim.AdamW(model.parameters(), lr=1e-3)], 6)
    assert last < 0.9 * first


@pytest.mark.parametrize(("from_masks", "keys"), [(False, [0]), (False, [0, 2]), (True, [0])])
def test_memory_is_trained_through_every_frame(from_masks, keys):
    grounding: Sam2Grounding = build(seed=3).model.grounding
    batch = grounding_batch(
        random.Random(2), SceneRecipe(video=True), clips=2, moments=(0, 0.1, 0.2), slots=2
    )
    noise = torch.Generator().manual_seed(0)
    losses = track_losses(grounding, batch, noise, keys=keys, from_masks=from_masks)
    assert len(losses) == (2 if from_masks else 3)
    losses[-1].total.backward()
    for part in (grounding.memory_encoder, grounding.memory_attention, grounding.mask_decoder):
        assert max(p.grad.abs().max() for p in part.parameters() if p.grad is not None) > 0


def test_taught_prompts_are_noisy_but_repeatable():
    batch = grounding_batch(random.Random(2), SceneRecipe(), clips=3, moments=(0.0,), slots=2)
    one, two = (taught(batch, torch.Generator().manual_seed(4)) for _ in range(2))
    other = taught(batch, torch.Generator().manual_seed(5))
    assert torch.equal(one, two) and not torch.equal(one, other)


# ---- optimisers, and what is kept ------------------------------------------------------------------


def test_muon_updates_are_nearly_orthogonal():
    update = orthogonalised(torch.randn(2, 24, 12))
    singular = torch.linalg.svdvals(update)
    assert singular.min() > 0.4 and singular.max() < 1.4


def test_muon_solves_a_linear_map():
    torch.manual_seed(0)
    weight, wanted = nn.Parameter(torch.zeros(8, 8)), torch.randn(8, 8)
    first, last = falls(lambda: (weight - wanted).square().mean(), [Muon([weight], lr=0.05)], 60)
    assert last < 0.2 * first


def test_an_exported_model_is_small_and_loads_as_it_was(parts, tmp_path):
    export(parts, tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10e6
    loaded = load_checkpoint(tmp_path, device=torch.device("cpu"), dtype=torch.float32)
    assert (loaded.config.key_frames, loaded.config.chat_frames) == (1, 5)
    theirs = dict(loaded.modules.named_parameters())
    for name, parameter in parts.model.named_parameters():
        assert torch.equal(theirs[name], parameter.half().float()), name


def test_the_probe_counts_right_answers(parts):
    shares = probe(parts.model, Packer(parts.tokenizer), clips=3, seed=1)
    assert "refer" in shares and all(0 <= share <= 1 for share in shares.values())
