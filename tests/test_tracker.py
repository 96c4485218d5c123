"""The tracker on a small SAM-2 with random weights: what is encoded, remembered and returned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sa2va_tools.errors import CancelledError
from sa2va_tools.model.config import Sam2Config
from sa2va_tools.model.device.cache import ByteCache
from sa2va_tools.model.device.memory_policy import BatchSizes, MemoryPolicy
from sa2va_tools.model.output import MaskOptions
from sa2va_tools.model.sam2.modules import FrameMemory, Sam2
from sa2va_tools.model.tracking.frame_features import encode_picture
from sa2va_tools.model.tracking.key_frame_prompts import (
    LanguageMaskPrompts,
    LanguagePrompts,
    MaskPrompts,
)
from sa2va_tools.model.tracking.mask_output import PendingMasks
from sa2va_tools.model.tracking.memory_bank import MemoryBank
from sa2va_tools.model.tracking.tracker import Tracker
from sa2va_tools.run import Run

SMALL = Sam2Config(
    image_size=64,
    embed_dim=8,
    num_heads=1,
    stages=(1, 1, 2, 1),
    global_att_blocks=(3,),
    window_pos_embed_bkg_spatial_size=(4, 4),
    window_spec=(4, 4, 4, 4),
    hidden_dim=128,
    memory_attention_layers=1,
    memory_attention_ffn=64,
    mask_decoder_mlp_dim=64,
    mask_decoder_num_heads=4,
    iou_head_hidden_dim=32,
    memory_fuser_layers=1,
    memory_fuser_hidden_dim=64,
    patch_stride=2,
    patch_kernel=5,
    patch_padding=2,
    num_maskmem=4,
    max_object_pointers=6,
)


@pytest.fixture(scope="module")
def sam2():
    torch.manual_seed(0)
    made = Sam2(SMALL).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


class Clip:
    """Random pictures that remember which of them were read."""

    def __init__(self, count, size_hw=(48, 80)):
        rng = np.random.default_rng(3)
        self.pictures = [rng.integers(0, 255, (*size_hw, 3), dtype=np.uint8) for _ in range(count)]
        self.read: list[int] = []

    def __len__(self):
        return len(self.pictures)

    def cache_key(self, position):
        return None

    def frames(self, positions):
        assert list(positions) == sorted(set(positions))
        for position in positions:
            self.read.append(position)
            yield self.pictures[position]


def _embeddings(count):
    return torch.randn(count, SMALL.hidden_dim, generator=torch.Generator().manual_seed(count))


def make_tracker(sam2, *, gate=False, run=None, options=MaskOptions()):  # noqa: B008
    run = run or Run()
    policy = MemoryPolicy(ByteCache(0), BatchSizes(frames=1), run.stats)
    return Tracker(sam2, policy, run, gate=gate, mask_options=options)


def prompts_of(mode, objects, *, threshold=0.5):
    if mode == "masks":
        masks = torch.zeros(objects, 48, 80, dtype=torch.bool)
        masks[:, 10:30, 20:50] = True
        return MaskPrompts(masks, Run())
    embeddings = _embeddings(objects)
    if mode == "language":
        return LanguagePrompts(embeddings)
    return LanguageMaskPrompts(embeddings, Run(), threshold=threshold)


def track(tracker, clip, positions, prompts):
    return {frame.position: frame for frame in tracker.propagate(clip, positions, prompts)}


@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("keys", [(0,), (0, 1, 2), (0, 4, 9)])
@pytest.mark.parametrize("mode", ["language", "language_masks"])
def test_each_frame_is_encoded_once_whatever_the_number_of_objects(sam2, mode, keys, objects):
    clip, tracker = Clip(10), make_tracker(sam2)
    frames = track(tracker, clip, keys, prompts_of(mode, objects))
    assert sorted(frames) == list(range(10))
    assert tracker.run.stats.encoder_passes == 10
    assert sorted(clip.read) == list(range(10))
    assert frames[5].masks.shape == (objects, 48, 80)
    assert frames[5].object_scores.shape == (objects,)


def test_objects_tracked_together_are_the_objects_tracked_alone(sam2):
    both = _embeddings(2)
    together = track(make_tracker(sam2), Clip(8), (0, 1), LanguagePrompts(both))
    for number in range(2):
        alone = track(make_tracker(sam2), Clip(8), (0, 1), LanguagePrompts(both[number : number + 1]))
        for position in range(8):
            same = together[position].masks[number] == alone[position].masks[0]
            assert same.mean() > 0.999


def test_a_mask_in_the_middle_is_tracked_both_ways(sam2):
    clip, tracker = Clip(70), make_tracker(sam2)
    order = [frame.position for frame in tracker.propagate(clip, [50], prompts_of("masks", 1))]
    assert order == [50, *range(51, 70), *range(49, -1, -1)]
    assert tracker.run.stats.encoder_passes == 70


def test_backwards_is_forwards_in_a_mirror(sam2):
    there, back = Clip(9), Clip(9)
    back.pictures = there.pictures[::-1]
    forward = track(make_tracker(sam2), there, [0], prompts_of("masks", 1))
    backward = track(make_tracker(sam2), back, [8], prompts_of("masks", 1))
    for position in range(9):  # encoded in other batches: pixels whose logit is next to zero may differ
        assert np.mean(forward[position].masks == backward[8 - position].masks) > 0.999


def test_a_given_mask_comes_back_on_its_own_frame(sam2):
    mask = torch.zeros(1, 48, 80, dtype=torch.bool)
    mask[:, 8:40, 16:64] = True
    frames = track(make_tracker(sam2, gate=True), Clip(1), [0], MaskPrompts(mask, Run()))
    union = (frames[0].masks[0] | mask[0].numpy()).sum()
    assert (frames[0].masks[0] & mask[0].numpy()).sum() / union > 0.9


def test_memory_does_not_grow_with_the_clip():
    bank = MemoryBank(SMALL.num_maskmem, SMALL.max_object_pointers)
    for position in range(500):
        bank.add(position, FrameMemory(torch.zeros(1), torch.zeros(1)))
        assert len(bank.recent_features) < SMALL.num_maskmem
        assert len(bank.recent_pointers) < SMALL.max_object_pointers
    assert [slot for slot, _ in bank.memories(500, 1)] == [3, 2, 1]
    assert len(bank.pointers(500, 1)) == SMALL.max_object_pointers - 1


def test_later_key_frames_give_memory_but_no_pointer_to_earlier_frames():
    bank = MemoryBank(SMALL.num_maskmem, SMALL.max_object_pointers)
    bank.conditioning = {
        at: FrameMemory(torch.full((1,), float(at)), torch.full((1,), float(at))) for at in (0, 9)
    }
    assert [slot for slot, _ in bank.memories(4, 1)] == [0, 0]
    assert [float(pointer) for pointer in bank.pointers(4, 1)] == [0.0]
    assert [float(pointer) for pointer in bank.pointers(4, -1)] == [9.0]


def test_cancelling_stops_before_the_next_frame(sam2):
    run, clip = Run(), Clip(50)
    frames = make_tracker(sam2, run=run).propagate(clip, (0,), prompts_of("language", 1))
    next(frames)
    next(frames)
    run.cancel()
    with pytest.raises(CancelledError):
        next(frames)
    assert len(clip.read) < 10  # some are decoded ahead


def test_gating_empties_masks_of_absent_objects(sam2):
    with torch.inference_mode():
        tracker = make_tracker(sam2, gate=True)
        features = encode_picture(sam2, Clip(1).pictures[0], None, tracker.policy, tracker.run)
        decoded = sam2.decode(
            features, sam2.embed_without_memory(features), sam2.language_prompt(_embeddings(4))
        )
        shifted = type(decoded)(
            decoded.logits.abs(), decoded.iou, decoded.tokens, torch.tensor([-1.0, 1, -1, 1])
        )
        chosen = sam2.select_best_mask(shifted, gate=True)
        assert [bool((row > 0).any()) for row in chosen.logits] == [False, True, False, True]
        absent = sam2.no_object_pointer[0]
        assert torch.equal(chosen.pointer[0], absent)
        assert not torch.equal(chosen.pointer[1], absent)
        assert bool((sam2.select_best_mask(shifted, gate=False).logits > 0).all())


@pytest.mark.parametrize("mode", ["language", "language_masks", "masks"])
def test_mask_options_do_not_reach_what_is_tracked(sam2, mode):
    """Neither the memory nor, in mode sa2va-i, the mask prompts of the key frames."""
    logits, masks = [], []
    for options in (MaskOptions(), MaskOptions(threshold=0.9, smooth=True)):
        tracker = make_tracker(sam2, options=options)
        tracker.recorded_logits = {}
        positions = [2] if mode == "masks" else [0, 3]
        prompts = prompts_of(mode, 2, threshold=options.threshold)
        masks.append(track(tracker, Clip(6), positions, prompts))
        logits.append(tracker.recorded_logits)
    # Of key frames whose prompts are binary masks, another threshold shows the logits behind those.
    tracked = (1, 2, 4, 5) if mode == "language_masks" else range(6)
    for at in tracked:  # 1e-2: a memory that rounds to another bfloat16 moves a logit by less
        torch.testing.assert_close(logits[0][at], logits[1][at], atol=1e-2, rtol=1e-3)
    if mode == "language_masks":
        assert float(logits[0][0].abs().max()) <= 10
        assert not torch.allclose(logits[0][0], logits[1][0], atol=0.1)
    assert any((masks[0][at].masks != masks[1][at].masks).any() for at in range(6))


class Copied:
    """A GPU's event after a copy, which records when it is waited for."""

    def __init__(self, position, waited_for):
        self.position, self.waited_for = position, waited_for

    def synchronize(self):
        self.waited_for.append(self.position)


@pytest.mark.parametrize(("on_gpu", "begun"), [(True, [2, 3, 4, 4]), (False, [1, 2, 3, 4])])
def test_masks_are_awaited_from_a_gpu_once_the_next_frame_is_under_way(sam2, monkeypatch, on_gpu, begun):
    started, waited_for, seen = [], [], []

    def predict_frames(tracker, *_):
        for position in range(4):
            started.append(position)
            copied = Copied(position, waited_for) if on_gpu else None
            logits = torch.full((2, 8, 8), float(position - 1))
            yield PendingMasks(position, (16, 24), logits, torch.zeros(2), copied)

    monkeypatch.setattr(Tracker, "_predict_frames", predict_frames)
    for frame in make_tracker(sam2).propagate(Clip(4), [0], prompts_of("language", 2)):
        seen.append(len(started))
        assert frame.masks.shape == (2, 16, 24) and bool(frame.masks.all()) == (frame.position > 1)
    assert seen == begun and waited_for == ([0, 1, 2, 3] if on_gpu else [])
