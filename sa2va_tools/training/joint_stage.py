"""The last stage: both parts together, as in Sa2VA: mask losses reach the language model through `[SEG]`.

Until here the two parts never saw each other; now the mask decoder learns to read what the language model
really writes. One step in six keeps the memory in training, and one points and boxes.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.training.grounding_data import cell_cover, normalise
from sa2va_tools.training.grounding_stage import LONG_CLIPS, decoded_loss, image_step, video_step
from sa2va_tools.training.language_losses import Batch, LanguageLoss, language_batch, read
from sa2va_tools.training.language_stage import DRILL, language_optimizers
from sa2va_tools.training.loop import StageRun
from sa2va_tools.training.losses import MaskLoss
from sa2va_tools.training.packing import Packer

IMAGE_CLIPS, VIDEO_CLIPS, TURNS = 10, 5, 7
_SEGMENTS_PER_CLIP = 4
_LATER_SHARE = 0.2
GROUNDING_RATE = 4e-4


def joint_optimizers(modules: Mapping[str, nn.Module], *, rate: float) -> list[Optimizer]:
    """As in the language stage at `rate` of its peak, and AdamW for the grounding part."""
    language = {name: module for name, module in modules.items() if name != "grounding"}
    grounding = torch.optim.AdamW(
        modules["grounding"].parameters(), lr=GROUNDING_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    return [*language_optimizers(language, rate=rate), grounding]


def train_joint(model: Sa2VA, packer: Packer, loss_of: LanguageLoss, run: StageRun) -> None:
    """Images, clips, memory and clicks in turn, all weights."""
    model.train()
    model.requires_grad_(True)
    for step in run:
        turn = step.number % 6
        if turn == 2:
            video_step(model.grounding, run, step, lengths=LONG_CLIPS)
            continue
        if turn == 5:
            image_step(model.grounding, run, step, clicks=True)
            continue
        video = turn in (1, 4)
        clips = run.share_of(VIDEO_CLIPS if video else IMAGE_CLIPS)
        turns = run.share_of(TURNS, least=4)
        tasks = DRILL.video_tasks if video else DRILL.image_tasks
        batch = language_batch(step.rng, packer, video=video, clips=clips, turns=turns, tasks=tasks)
        batch = batch.on(run.device)
        total, log, prompts = loss_of(batch, read(model.mllm, batch), dense=True)
        if len(prompts):
            masks = mask_losses(model, batch, prompts, step.rng)
            total = total + masks.total
            log["video_mask_iou" if video else "mask_iou"] = masks.iou_reached
        run.learn(total, log)


def mask_losses(model: Sa2VA, batch: Batch, prompts: Tensor, rng: random.Random) -> MaskLoss:
    """Masks for a few `[SEG]`s of every clip; `prompts` (S, C) as in the batch. Mostly on the first frame;
    of some clips on another, as `[SEG]` may prompt several key frames."""
    of_clip: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(batch.packed.segments[:, 0].tolist()):
        of_clip[row].append(number)
    chosen = [k for ks in of_clip.values() for k in rng.sample(ks, min(len(ks), _SEGMENTS_PER_CLIP))]
    rows, things = batch.packed.segments[chosen, 0], batch.packed.segments[chosen, 2].tolist()
    clips = [sample.clip for sample in batch.samples]
    moments = [rng.randrange(len(batch.moments)) if rng.random() < _LATER_SHARE else 0 for _ in clips]
    frames = [clip.frames_thwc[t] for clip, t in zip(clips, moments, strict=True)]
    features = model.grounding.encode(normalise(np.stack(frames)).to(rows.device)).take(rows)
    target = torch.cat(
        [cell_cover(clips[b].ids_thw[moments[b]], [i]) for b, i in zip(rows.tolist(), things, strict=True)]
    ).to(rows.device)
    decoded = model.grounding.decode(
        features, model.grounding.without_memory(features), model.grounding.language_prompt(prompts[chosen])
    )
    return decoded_loss(decoded, target, torch.ones_like(rows, dtype=torch.bool))
