"""Training away from the CPU. With CUDA a smoke run trains on the GPU; everywhere, a stand-in for a GPU
refuses what a GPU would refuse: computing with tensors of two devices."""

from __future__ import annotations

import random

import pytest
import torch
from pretend_gpu import GPU, PretendGpu

from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.nano.course.grounding_data import sample_grounding_batch
from sa2va_tools.nano.course.grounding_stage import sample_spatial_prompt
from sa2va_tools.nano.course.nano_model import build_nano
from sa2va_tools.nano.course.stages import NanoRecipe, TrainingJob, run_all, run_joint
from sa2va_tools.nano.course.train import train_nano
from sa2va_tools.nano.world.sampling import SceneRecipe
from sa2va_tools.run import Run
from sa2va_tools.training.device import CPU, choose_training_device, move_to_device

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


def test_every_stage_trains_and_resumes_away_from_the_cpu(tmp_path):
    job = TrainingJob(tmp_path, TINY, device=GPU)
    with PretendGpu():
        run_all(job)
        run_joint(job)  # already finished: its state is loaded onto the device again
    load_checkpoint(tmp_path / "checkpoint", devices=(CPU,), dtype=torch.float32, run=Run())
    assert not (tmp_path / "joint.csv").read_text().count("skipped")


def test_prompts_are_on_the_device_of_the_model():
    sam2 = build_nano(seed=0).model.sam2
    batch = sample_grounding_batch(random.Random(1), SceneRecipe(), clips=2, moments=(0.0,), slots=2)
    with PretendGpu():
        sam2 = sam2.to(GPU)
        batch = move_to_device(batch, GPU)
        for kind in ("point", "box", "mask"):
            prompt = sample_spatial_prompt(sam2, batch, kind, torch.Generator().manual_seed(0))
            assert prompt.sparse.device == prompt.dense.device == GPU


def test_auto_takes_cuda_if_it_is_available():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_training_device("auto").type == expected


@pytest.mark.gpu
def test_a_smoke_run_on_cuda_lowers_every_loss(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    trained = train_nano(tmp_path, smoke=True, device="cuda")
    assert not {stage: each for stage, each in trained.losses.items() if not each.last < each.first}
    load_checkpoint(trained.checkpoint, devices=(CPU,), dtype=torch.float32, run=Run())
