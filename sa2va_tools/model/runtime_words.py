"""A loaded checkpoint's words: looking, answering, captioning."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va_tools.model import prompt as words
from sa2va_tools.model.asking import About
from sa2va_tools.model.batching import generate_all
from sa2va_tools.model.cache import tensor_bytes
from sa2va_tools.model.device import wait_for
from sa2va_tools.model.families.base import VisualInput
from sa2va_tools.model.generation import NextToken, generate, greedy
from sa2va_tools.model.out_of_memory import memory_guard
from sa2va_tools.model.output import (
    ModelAnswer,
    RegionAnswer,
)
from sa2va_tools.model.preprocess import Picture
from sa2va_tools.model.prompt import Turn
from sa2va_tools.model.regions import outlined_question, outlined_region, region_input
from sa2va_tools.model.runtime_core import RuntimeCore
from sa2va_tools.model.text_stream import TextStream
from sa2va_tools.progress import CancelToken


class RuntimeWords(RuntimeCore):
    """Pictures and questions in, answers out."""

    def recall(self, key: Hashable) -> VisualInput | None:
        """What `look` saw under that key, where it is still there."""
        return self.cache.get("visual tokens", key)

    @torch.inference_mode()
    def look(
        self,
        pictures: Sequence[Picture],
        *,
        video: bool,
        key: Hashable | None = None,
        cancel: CancelToken | None = None,
    ) -> VisualInput:
        """Visual tokens of an image or of key frames, to be used in several `answer`s; `key` stands for the
        pictures and the way they are shown."""
        with memory_guard("Looking at the pictures"):
            seen = self._modules.mllm.look(pictures, video=video, cancel=cancel)
            wait_for(self._home.device)  # else its time and its errors would be the answer's
        if key is not None:
            seen = replace(seen, key=key)
            self.cache.put("visual tokens", key, seen, tensor_bytes(seen))
        return seen

    @torch.inference_mode()
    def answer(
        self,
        question: str,
        visual: VisualInput | None = None,
        *,
        cells: Sequence[NDArray[np.int64]] = (),
        history: Sequence[Turn] = (),
        max_new_tokens: int = 2048,
        next_token: NextToken = greedy,
        cancel: CancelToken | None = None,
        on_token: Callable[[int], None] = lambda count: None,
        on_text: Callable[[str], None] | None = None,
    ) -> ModelAnswer:
        """Answer a question that holds `<image>` where the pictures go (words.IMAGE). `cells` are the
        regions' grid cells; they are spoken of as region1, region2, … `on_text` hears the clean text so far,
        and then `on_token` the number of tokens."""
        about = About(visual, cells)
        prompt_ids = self._asking.prompt_ids(question, about, history)
        stream = TextStream(self._tokenizer)

        def wrote(written: Sequence[int]) -> None:
            if on_text is not None:
                on_text(stream.text(written))
            on_token(len(written))

        with memory_guard("The answer"):
            made, read = generate(
                self._modules.mllm,
                self._tokenizer,
                self._asking.embedded(prompt_ids, about),
                prompt_ids,
                before=self._asking.before(about),
                stop_words=self._asking.chat.stop_words,
                max_new_tokens=max_new_tokens,
                next_token=next_token,
                cancel=cancel,
                on_token=wrote,
            )
            answer = self._asking.answer(prompt_ids, made)
        self._asking.keep(about, read)
        return answer

    @torch.inference_mode()
    def answer_all(
        self,
        questions: Sequence[str],
        visual: VisualInput | None = None,
        *,
        history: Sequence[Turn] = (),
        max_new_tokens: int = 2048,
        cancel: CancelToken | None = None,
        on_token: Callable[[int], None] = lambda count: None,
    ) -> list[ModelAnswer]:
        """What `answer` says to each of several questions, none of which hears of the others; together, so
        that pictures and history are read once. `on_token` hears the number of tokens of all answers."""
        if len(questions) < 2:
            return [
                self.answer(
                    question,
                    visual,
                    history=history,
                    max_new_tokens=max_new_tokens,
                    cancel=cancel,
                    on_token=on_token,
                )
                for question in questions
            ]
        about = About(visual)
        prompts = [self._asking.prompt_ids(question, about, history) for question in questions]
        with memory_guard("The answers"):
            made, read = generate_all(
                self._modules.mllm,
                self._tokenizer,
                prompts,
                lambda prompt_ids: self._asking.embedded(prompt_ids, about),
                before=self._asking.before(about),
                stop_words=self._asking.chat.stop_words,
                max_new_tokens=max_new_tokens,
                cancel=cancel,
                on_token=on_token,
                make_room=self.make_room,
                on_fewer=lambda rows: self.tally.relieved(f"{rows} answer(s) were written at once"),
            )
            answers = [self._asking.answer(ids, each) for ids, each in zip(prompts, made, strict=True)]
        self._asking.keep(about, read)
        return answers

    def caption(
        self,
        picture: Picture,
        mask: NDArray[np.bool_],
        question: str = words.CAPTION_REGION,
        *,
        visual: VisualInput | None = None,
        max_new_tokens: int = 2048,
        cancel: CancelToken | None = None,
        on_token: Callable[[int], None] = lambda count: None,
        on_text: Callable[[str], None] | None = None,
    ) -> RegionAnswer:
        """What is inside `mask` (height, width) of the picture, whose visual tokens may be given."""
        if not self.capabilities.caption_region:
            seen = self.look([outlined_region(picture, mask)], video=False)
            answer = self.answer(
                f"{words.IMAGE}{outlined_question(question.strip())}",
                seen,
                max_new_tokens=max_new_tokens,
                cancel=cancel,
                on_token=on_token,
                on_text=on_text,
            )
            return RegionAnswer(answer, "outline")
        region = region_input(
            picture, mask, self.config.region_grid, cell_share=self.config.region_cell_share
        )
        if region.cropped or visual is None:
            visual = self.look([region.picture], video=False)
        answer = self.answer(
            f"{words.IMAGE}{question.strip()}",
            visual,
            cells=[region.cells],
            max_new_tokens=max_new_tokens,
            cancel=cancel,
            on_token=on_token,
            on_text=on_text,
        )
        return RegionAnswer(answer, "crop" if region.cropped else "prompt")
