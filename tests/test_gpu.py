"""The same answers on CUDA as on the CPU. Run with `make test-gpu`."""

import numpy as np
import pytest

from sa2va_server.demo_scene import EXPRESSIONS, write_demo_clip
from sa2va_tools import Engine, Settings
from sa2va_tools.model.checkpoints import NANO_FOLDER

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not list(NANO_FOLDER.glob("*.safetensors")),
        reason="the nano model's weights are not in this checkout",
    ),
]
PIXELS_THAT_MAY_DIFFER = 0.005


def test_what_leaves_the_gpu_lies_in_host_memory_and_comes_back(cuda):
    import torch

    from sa2va_tools.model.offload import brought_back, sent_away

    kept = (torch.randn(3, 5, device=cuda), "no tensor")
    away = sent_away(kept)
    assert not away[0].tensor.is_cuda
    back = brought_back(away)
    assert back[0].is_cuda and torch.equal(back[0], kept[0])


@pytest.fixture
def cuda() -> str:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return "cuda"


def test_masks_on_cuda_are_those_of_the_cpu(cuda, tmp_path):
    clip = write_demo_clip(tmp_path / "clip.mp4", frames=16, size_wh=(256, 192))
    tracks = {}
    for device in ("cpu", cuda):
        settings = Settings(model="nano", device=device, dtype="float32", store_dir=tmp_path / device)
        with Engine.load(settings=settings) as engine:
            result = engine.segment(clip, EXPRESSIONS)
        assert result.provenance.device.startswith(device)
        tracks[device] = [thing.track for thing in result.objects]
    for ours, theirs in zip(*tracks.values(), strict=True):
        assert (ours is None) == (theirs is None)
        for frame in ours.frame_indices if ours else ():
            assert np.mean(ours.mask(frame) != theirs.mask(frame)) < PIXELS_THAT_MAY_DIFFER
