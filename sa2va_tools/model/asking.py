"""Questions as the language model reads them, answers as values, and what was read kept for later."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va_tools.model import prompt as words
from sa2va_tools.model.cache import ByteCache
from sa2va_tools.model.chat import Chat
from sa2va_tools.model.families.base import Embedded, VisualInput
from sa2va_tools.model.generation import Generation
from sa2va_tools.model.output import ModelAnswer
from sa2va_tools.model.prompt import Turn
from sa2va_tools.model.reading import Read
from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.model.tokenizer import Tokenizer

READINGS = "readings"


@dataclass(frozen=True, slots=True)
class About:
    """What questions are about: pictures, and the grid cells of each region."""

    visual: VisualInput | None
    cells: Sequence[NDArray[np.int64]] = ()

    @property
    def key(self) -> Hashable | None:
        """Prompts of equal pictures and regions begin alike; None where that is not known of the pictures."""
        if self.visual is None or self.visual.key is None:
            return None
        return self.visual.key, tuple(region.tobytes() for region in self.cells)


@dataclass(frozen=True, slots=True)
class Asking:
    """A checkpoint's way from a question's words to embeddings, and back from tokens."""

    modules: Sa2VA
    tokenizer: Tokenizer
    chat: Chat
    cache: ByteCache

    def prompt_ids(self, question: str, about: About, history: Sequence[Turn]) -> list[int]:
        """The whole chat up to where the answer begins."""
        pictures = "" if about.visual is None else self.modules.mllm.placeholders(about.visual)
        if about.cells:
            pictures += words.region_tokens([len(region) for region in about.cells])
        return self.tokenizer.encode(self.chat.text(question, pictures, history))

    def embedded(self, prompt_ids: Sequence[int], about: About) -> Embedded:
        ids = torch.tensor([prompt_ids], device=self.modules.grounding.no_object_pointer.device)
        return self.modules.mllm.embed(ids, about.visual, about.cells)

    def answer(self, prompt_ids: Sequence[int], made: Generation) -> ModelAnswer:
        return ModelAnswer(
            self.tokenizer.decode(made.token_ids),
            tuple(prompt_ids),
            tuple(made.token_ids),
            self.modules.prompt_embeddings(made.seg_hidden).float().cpu().numpy(),
            made.truncated,
        )

    def before(self, about: About) -> Read | None:
        """What was last read about the same."""
        return None if about.key is None else self.cache.get(READINGS, about.key)

    def keep(self, about: About, read: Read | None) -> None:
        if about.key is not None and read is not None:
            self.cache.put(READINGS, about.key, read, self.modules.mllm.cache_bytes(read.states))
