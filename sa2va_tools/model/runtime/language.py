"""The language side of a loaded checkpoint: pictures and questions in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va_tools.model.checkpoints.loader import LoadedCheckpoint
from sa2va_tools.model.device.cache import count_tensor_bytes
from sa2va_tools.model.device.memory_policy import MemoryPolicy
from sa2va_tools.model.device.placement import synchronize
from sa2va_tools.model.families.base import ImageFeatures, LanguageInputs
from sa2va_tools.model.families.kv_cache import count_cache_bytes
from sa2va_tools.model.generation.batched import generate_batch
from sa2va_tools.model.generation.decoding import GeneratedAnswer, NextToken, generate, greedy
from sa2va_tools.model.generation.prefill import CachedPrefix
from sa2va_tools.model.output import ModelAnswer, RegionAnswer
from sa2va_tools.model.preprocessing.region_prompts import ask_about_outline, outline_region, prepare_region
from sa2va_tools.model.preprocessing.tiles import Picture
from sa2va_tools.model.text import prompts
from sa2va_tools.model.text.prompts import Turn
from sa2va_tools.model.text.streamer import TextStream
from sa2va_tools.run import Run

IMAGE_FEATURES = "image_features"
KV_PREFIX = "kv_prefix"
MAX_NEW_TOKENS = 2048
"""Upstream's own bound on an answer."""


@dataclass(frozen=True, slots=True)
class PromptContext:
    """What questions are about: pictures, and the grid cells of each region."""

    features: ImageFeatures | None
    cells: Sequence[NDArray[np.int64]] = ()

    @property
    def cache_key(self) -> Hashable | None:
        """Prompts with equal pictures and regions begin alike; None if that is unknown."""
        if self.features is None or self.features.cache_key is None:
            return None
        return self.features.cache_key, tuple(region.tobytes() for region in self.cells)


@dataclass(frozen=True, slots=True)
class Language:
    """For one run. Image features and what the language model has processed are cached for later runs."""

    checkpoint: LoadedCheckpoint
    policy: MemoryPolicy
    run: Run

    def get_image_features(
        self, read_pictures: Callable[[], Sequence[Picture]], *, video: bool, key: Hashable | None = None
    ) -> ImageFeatures:
        """Visual tokens of an image or of some frames, for any number of answers. `key` stands for the
        pictures and the way they are shown: if their features are cached, the pictures are not read."""
        with self.run.timed("look"):
            cached: ImageFeatures | None = self.policy.cache.get(IMAGE_FEATURES, key)
            if cached is not None:
                return cached
            pictures = read_pictures()
            encoded = self.policy.retry(lambda: self._encode_pictures(pictures, video=video))
            features = replace(encoded, cache_key=key)
            self.policy.cache.put(IMAGE_FEATURES, key, features, count_tensor_bytes(features))
            return features

    @torch.inference_mode()
    def _encode_pictures(self, pictures: Sequence[Picture], *, video: bool) -> ImageFeatures:
        features: ImageFeatures = self.checkpoint.modules.mllm.get_image_features(
            pictures, video=video, run=self.run
        )
        synchronize(features.tokens.device)  # otherwise the answer would pay for it
        return features

    def answer(
        self,
        question: str,
        features: ImageFeatures | None = None,
        *,
        cells: Sequence[NDArray[np.int64]] = (),
        history: Sequence[Turn] = (),
        max_new_tokens: int = MAX_NEW_TOKENS,
        next_token: NextToken = greedy,
        label: str = "the answer",
    ) -> ModelAnswer:
        """Answer a question with `<image>` (`prompts.IMAGE`) where the pictures go. `cells` are the grid
        cells of region1, region2, … in the question. Progress is reported as writing `label`."""
        context = PromptContext(features, cells)
        prompt_ids = self._encode_prompt(question, context, history)
        with self.run.timed("answer"):
            generated, prefix = self.policy.retry(
                lambda: self._generate(prompt_ids, context, max_new_tokens, next_token, label)
            )
            answer = self._finish(prompt_ids, generated)
        self._cache_prefix(context, prefix)
        return answer

    @torch.inference_mode()
    def _generate(
        self,
        prompt_ids: Sequence[int],
        context: PromptContext,
        max_new_tokens: int,
        next_token: NextToken,
        label: str,
    ) -> tuple[GeneratedAnswer, CachedPrefix]:
        stream = TextStream(self.checkpoint.tokenizer)

        def report(token_ids: Sequence[int]) -> None:
            count = len(token_ids)
            message = f"writing {label}, {count} tokens"
            self.run.report("answer", count, None, message, stream.text(token_ids))

        return generate(
            self.checkpoint.modules.mllm,
            self.checkpoint.tokenizer,
            self._embed(prompt_ids, context),
            prompt_ids,
            self.run,
            stop_words=self.checkpoint.chat.stop_words,
            max_new_tokens=max_new_tokens,
            cached_prefix=self.policy.cache.get(KV_PREFIX, context.cache_key),
            next_token=next_token,
            on_token=report,
        )

    def answer_all(
        self,
        questions: Sequence[str],
        features: ImageFeatures | None = None,
        *,
        history: Sequence[Turn] = (),
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> list[ModelAnswer]:
        """What `answer` gives for each question; pictures and history are processed once for all."""
        if len(questions) == 1:
            return [self.answer(questions[0], features, history=history, max_new_tokens=max_new_tokens)]
        context = PromptContext(features)
        prompts_ids = [self._encode_prompt(question, context, history) for question in questions]
        with self.run.timed("answer"):
            generated, prefix = self.policy.retry(
                lambda: self._generate_batch(prompts_ids, context, max_new_tokens)
            )
            answers = [self._finish(ids, each) for ids, each in zip(prompts_ids, generated, strict=True)]
        self._cache_prefix(context, prefix)
        return answers

    @torch.inference_mode()
    def _generate_batch(
        self, prompts_ids: Sequence[Sequence[int]], context: PromptContext, max_new_tokens: int
    ) -> tuple[list[GeneratedAnswer], CachedPrefix | None]:
        def report(count: int) -> None:
            self.run.report("answer", count, None, f"writing {len(prompts_ids)} answers, {count} tokens")

        return generate_batch(
            self.checkpoint.modules.mllm,
            self.checkpoint.tokenizer,
            prompts_ids,
            lambda prompt_ids: self._embed(prompt_ids, context),
            self.run,
            self.policy,
            stop_words=self.checkpoint.chat.stop_words,
            max_new_tokens=max_new_tokens,
            cached_prefix=self.policy.cache.get(KV_PREFIX, context.cache_key),
            on_token=report,
        )

    def caption(
        self,
        picture: Picture,
        mask: NDArray[np.bool_],
        question: str = prompts.CAPTION_REGION,
        *,
        features: ImageFeatures | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        label: str = "the answer",
    ) -> RegionAnswer:
        """Describe what is inside `mask` (height, width) of the picture, whose features may be given."""
        config = self.checkpoint.config
        text = f"{prompts.IMAGE}{question.strip()}"
        cells: list[NDArray[np.int64]] = []
        shown_as: Literal["prompt", "crop", "outline"] = "outline"
        if config.capabilities.caption_region:
            region = prepare_region(picture, mask, config.region_grid, cell_share=config.region_cell_share)
            cells = [region.cells]
            shown_as = "crop" if region.cropped else "prompt"
            if region.cropped or features is None:
                features = self.get_image_features(lambda: [region.picture], video=False)
        else:
            text = ask_about_outline(text)
            features = self.get_image_features(lambda: [outline_region(picture, mask)], video=False)
        answer = self.answer(text, features, cells=cells, max_new_tokens=max_new_tokens, label=label)
        return RegionAnswer(answer, shown_as)

    def _encode_prompt(self, question: str, context: PromptContext, history: Sequence[Turn]) -> list[int]:
        """Tokens of the whole chat up to where the answer begins."""
        features = context.features
        pictures = "" if features is None else self.checkpoint.modules.mllm.placeholders(features)
        if context.cells:
            pictures += prompts.region_tokens([len(region) for region in context.cells])
        return self.checkpoint.tokenizer.encode(self.checkpoint.chat.text(question, pictures, history))

    def _embed(self, prompt_ids: Sequence[int], context: PromptContext) -> LanguageInputs:
        token_ids = torch.tensor([prompt_ids], device=self.checkpoint.modules.sam2.no_object_pointer.device)
        return self.checkpoint.modules.mllm.embed(token_ids, context.features, context.cells)

    @torch.inference_mode()
    def _finish(self, prompt_ids: Sequence[int], generated: GeneratedAnswer) -> ModelAnswer:
        seg_prompts = self.checkpoint.modules.project_seg_states(generated.seg_hidden)
        return ModelAnswer(
            self.checkpoint.tokenizer.decode(generated.token_ids),
            tuple(prompt_ids),
            tuple(generated.token_ids),
            seg_prompts.float().cpu().numpy(),
            generated.truncated,
        )

    def _cache_prefix(self, context: PromptContext, prefix: CachedPrefix | None) -> None:
        if prefix is not None and self.policy.may_cache:
            size = count_cache_bytes(prefix.cache)
            self.policy.cache.put(KV_PREFIX, context.cache_key, prefix, size)
