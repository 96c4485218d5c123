"""SAM-2 on the modules of the package `sam2`: every step gives the same tensors as on those of transformers.

Runs if the package is installed (see docs/CHECKPOINTS.md)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sa2va_tools.errors import MissingExtraError, RequestError, UnsupportedCheckpointError
from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.model.config import Sam2Config
from sa2va_tools.model.device.cache import ByteCache
from sa2va_tools.model.device.memory_policy import BatchSizes, MemoryPolicy
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.key_mapping import KeyMap
from sa2va_tools.model.sam2.key_rules import PACKAGE_RULES, sam2_rules
from sa2va_tools.model.sam2.modules import Sam2
from sa2va_tools.model.sam2.package import PackageSam2
from sa2va_tools.model.tracking.key_frame_prompts import LanguagePrompts
from sa2va_tools.model.tracking.tracker import Tracker
from sa2va_tools.run import Run

SMALL = Sam2Config(
    image_size=256, embed_dim=16, num_heads=1, stages=(1, 2, 3, 1), global_att_blocks=(4,),
    window_spec=(8, 4, 14, 7), hidden_dim=128, mask_decoder_mlp_dim=128, mask_decoder_num_heads=4,
    iou_head_hidden_dim=64, memory_attention_layers=2, memory_attention_ffn=128,
)  # fmt: skip
CPU = torch.device("cpu")


def build_both(**sizes):
    """Both implementations with the same weights, which travel under upstream's names."""
    pytest.importorskip("sam2", reason="the package sam2 is not installed")
    torch.manual_seed(0)
    theirs = PackageSam2(SMALL.model_copy(update=sizes)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    upstream = KeyMap(PACKAGE_RULES).to_upstream(
        {f"sam2.{name}": value for name, value in theirs.state_dict().items()}
    )
    ours = Sam2(SMALL.model_copy(update=sizes)).eval()
    keys, filled, stacks = KeyMap(sam2_rules()), {}, {}
    for key, value in upstream.items():
        placement = keys.place(key)
        if placement.parts > 1:
            stacks.setdefault(placement.native[0], {})[placement.part] = value
        else:
            filled |= placement.pieces(value)
    filled |= {name: torch.cat([rows[k] for k in sorted(rows)]) for name, rows in stacks.items()}
    ours.load_state_dict({name.removeprefix("sam2."): value for name, value in filled.items()})
    return ours, theirs


class Frames:
    """Six frames of noise that drifts."""

    def __init__(self) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (40, 52, 3), dtype=np.uint8)
        self.pictures = [np.roll(noise, 3 * k, 1) for k in range(6)]

    def __len__(self) -> int:
        return len(self.pictures)

    def cache_key(self, position):
        return None

    def frames(self, positions):
        return (self.pictures[k] for k in positions)


@pytest.mark.parametrize("second", [False, True])
def test_both_track_the_same_masks(second):
    embeddings = torch.randn(2, 128, generator=torch.Generator().manual_seed(1))
    logits = []
    for sam2 in build_both(separate_language_mask_decoder=second):
        run = Run()
        policy = MemoryPolicy(ByteCache(0), BatchSizes(), run.stats)
        tracker = Tracker(sam2, policy, run, gate=False, memory_dtype=torch.float32)
        tracker.recorded_logits = {}
        with torch.inference_mode():
            prompts = LanguagePrompts(embeddings, gate=False)
            results = list(tracker.propagate(Frames(), [0, 3], prompts))
        assert len(results) == 6
        logits.append(tracker.recorded_logits)
    for position, ours in logits[0].items():
        torch.testing.assert_close(ours, logits[1][position], atol=1e-4, rtol=1e-4)
    assert any((ours > 0).any() and (ours < 0).any() for ours in logits[0].values())


def test_both_segment_points_and_masks_alike():
    ours, theirs = build_both()
    points, labels = torch.tensor([[[40.0, 90.0], [200.0, 180.0]]]), torch.tensor([[2, 3]], dtype=torch.int32)
    square = torch.zeros(1, 256, 256)
    square[:, 60:200, 30:120] = 1
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        clicked, given = [], []
        for sam2 in (ours, theirs):
            features = sam2.encode(pixels)
            prompt = sam2.point_prompt(points, labels, multimask=False)
            clicked.append(sam2.decode(features, sam2.embed_without_memory(features), prompt))
            given.append(sam2.mask_as_output(features, square))
    torch.testing.assert_close(clicked[0].logits, clicked[1].logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(given[0].pointer, given[1].pointer, atol=1e-4, rtol=1e-4)


def test_sizes_that_the_package_lacks_are_named():
    with pytest.raises(UnsupportedCheckpointError, match="patch_kernel"):
        load_checkpoint(NANO_FOLDER, devices=(CPU,), dtype=torch.float32, sam2_class=PackageSam2, run=Run())


def test_a_stock_decoder_is_refused():
    with pytest.raises(RequestError, match="cannot be combined"):
        PackageSam2.key_rules(stock_decoder=True)


def test_without_the_package_its_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sam2", None)
    monkeypatch.setitem(sys.modules, "sam2.modeling.backbones.hieradet", None)
    with pytest.raises(MissingExtraError, match=r"sa2va-tools\[sam2\]"):
        PackageSam2(SMALL)
