"""Training off the CPU. With CUDA a smoke run trains on it; everywhere, a stand-in for a GPU refuses what a
GPU would refuse: computing with tensors of both sides."""

from __future__ import annotations

import random

import pytest
import torch
from pretend_gpu import GPU, PretendGpu

from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.training.config import NanoRecipe
from sa2va_tools.training.device import CPU, moved, training_device
from sa2va_tools.training.grounding_data import grounding_batch
from sa2va_tools.training.grounding_stage import spatial_prompt
from sa2va_tools.training.nano import train_nano
from sa2va_tools.training.nano_stages import Job, build, run_all, run_joint
from sa2va_tools.training.world import SceneRecipe

TINY = NanoRecipe(
    grounding_steps=3,
    vision_steps=2,
    language_steps=3,
    practice_steps=3,
    review_steps=3,
    drill_steps=3,
    joint_steps=3,
    batch_share=0.01,
    workers=1,
)


def test_the_stand_in_refuses_what_a_gpu_refuses():
    with PretendGpu():
        here, there = torch.ones(2), torch.ones(2).to(GPU)
        assert (there + 1 + torch.tensor(1.0)).device == GPU and here.device == CPU
        assert torch.zeros_like(there).device == there.cpu().to("cuda").device == GPU
        with pytest.raises(RuntimeError, match="both sides"):
            here + there
        with pytest.raises(RuntimeError, match="both sides"):
            torch.nn.Linear(2, 2)(there)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert torch.nn.Linear(2, 2).to(GPU)(there).device == GPU


def test_every_stage_trains_and_goes_on_away_from_the_cpu(tmp_path):
    job = Job(tmp_path, TINY, device=GPU)
    with PretendGpu():
        run_all(job)
        run_joint(job)  # it is done: its state is read back to where it was
    load_checkpoint(tmp_path / "checkpoint", device=CPU, dtype=torch.float32)
    assert not (tmp_path / "joint.csv").read_text().count("skipped")


def test_prompts_are_made_where_the_model_is():
    grounding = build(seed=0).model.grounding
    batch = grounding_batch(random.Random(1), SceneRecipe(), clips=2, moments=(0.0,), slots=2)
    with PretendGpu():
        grounding, batch = grounding.to(GPU), moved(batch, GPU)
        for kind in ("point", "box", "mask"):
            prompt = spatial_prompt(grounding, batch, kind, torch.Generator().manual_seed(0))
            assert prompt.sparse.device == prompt.dense.device == GPU


def test_auto_takes_cuda_where_it_is():
    assert training_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.gpu
def test_a_smoke_run_on_cuda_improves_every_loss(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    trained = train_nano(tmp_path, smoke=True, device="cuda")
    assert not {stage: fall for stage, fall in trained.losses.items() if not fall.last < fall.first}
    load_checkpoint(trained.checkpoint, device=CPU, dtype=torch.float32)
