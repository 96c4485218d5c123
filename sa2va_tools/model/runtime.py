"""A loaded checkpoint, ready to be asked: numpy in, numpy out.

The only class of this package that the engine holds. Knows pictures, prompts and masks; nothing of
files, handles or ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va_tools.model import prompt as words
from sa2va_tools.model.asking import About, Asking
from sa2va_tools.model.batching import generate_all
from sa2va_tools.model.cache import ByteCache, tensor_bytes
from sa2va_tools.model.config import Capabilities
from sa2va_tools.model.device import (
    AT_EASE,
    Pace,
    choose_cache_bytes,
    choose_devices,
    choose_dtype,
    choose_encoder_dtype,
    choose_pace,
    choose_threads,
    cpu_threads,
    free_bytes,
)
from sa2va_tools.model.families.base import VisualInput
from sa2va_tools.model.feature_stream import KIND
from sa2va_tools.model.generation import NextToken, generate, greedy
from sa2va_tools.model.interrupts import Interrupts
from sa2va_tools.model.loading import Loaded, load_checkpoint
from sa2va_tools.model.memory import MemoryEstimate, Work, estimate, fitting_pace
from sa2va_tools.model.out_of_memory import memory_guard
from sa2va_tools.model.output import (
    USUAL_WISHES,
    DeviceFacts,
    FrameMasks,
    FrameSource,
    MaskWishes,
    ModelAnswer,
    PointPrompt,
    RegionAnswer,
)
from sa2va_tools.model.preprocess import Picture
from sa2va_tools.model.prompt import Turn
from sa2va_tools.model.propagation import Propagator
from sa2va_tools.model.quantised import Quantisation
from sa2va_tools.model.regions import outlined_question, outlined_region, region_input
from sa2va_tools.model.speed import Speed
from sa2va_tools.model.tally import Tally
from sa2va_tools.model.text_stream import TextStream
from sa2va_tools.progress import CancelToken

_SMALL_PARAMETERS = 50_000_000


class Sa2vaRuntime:
    """One checkpoint on one device."""

    def __init__(
        self,
        loaded: Loaded,
        name: str,
        *,
        threads: int | None = None,
        memory_dtype: torch.dtype = torch.bfloat16,
        quantize: Quantisation | None = None,
        devices: Sequence[torch.device] = (),
        pace: Pace = AT_EASE,
        cache_bytes: int = 0,
    ) -> None:
        """What was seen and read is kept within `cache_bytes`."""
        self._pace, self.cache, self.speed = pace, ByteCache(cache_bytes), Speed()
        self.tally = Tally()
        self._loaded, self.name = loaded, name
        self._quantize, self._devices = quantize, devices
        self._threads = threads
        self.config, self.revision = loaded.config, loaded.revision
        self._modules, self._tokenizer = loaded.modules, loaded.tokenizer
        self._asking = Asking(self._modules, self._tokenizer, loaded.chat, self.cache)
        self._memory_dtype = memory_dtype
        self._interrupts = Interrupts()
        self._interrupts.watch(loaded.modules)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        encoder_dtype: str = "auto",
        fast_tracking: bool = False,
        quantize: Quantisation | None = None,
        threads: int | None = None,
        sam2_decoder: Path | None = None,
        grounding: str = "transformers",
        cache_bytes: int | None = 0,
        cancel: CancelToken | None = None,
        on_file: Callable[[int, int], None] = lambda done, total: None,
    ) -> Sa2vaRuntime:
        """Load a checkpoint's folder; raises CheckpointError and its kinds, RequestError for a device
        that is not there, OutOfMemoryError where it does not fit."""
        place, *others = choose_devices(device)
        small = sum(file.stat().st_size for file in folder.glob("*.safetensors")) < 2 * _SMALL_PARAMETERS
        base = choose_dtype(dtype, place, small=small)
        encoder = choose_encoder_dtype(encoder_dtype, base, dtype, place, small=small)
        with memory_guard(f"The checkpoint {folder.name}"):
            loaded = load_checkpoint(
                folder,
                device=place,
                dtype=base,
                others=others,
                quantize=quantize,
                sam2_decoder=sam2_decoder,
                grounding=grounding,
                cancel=cancel,
                on_file=on_file,
            )
            loaded.modules.grounding.image_encoder.to(encoder)
        return cls(
            loaded,
            name or folder.name,
            threads=choose_threads(threads, place, small=small),
            quantize=quantize,
            devices=(place, *others),
            pace=choose_pace(place, small=small, fast=fast_tracking),
            cache_bytes=choose_cache_bytes(cache_bytes, small=small),
        )

    @contextmanager
    def at_work(self, cancel: CancelToken | None = None) -> Iterator[None]:
        """Around everything that is asked of the model: its number of CPU threads, only meanwhile; `cancel`
        is heard between any two layers. What `tally` says is of this work."""
        self.tally = Tally()
        with cpu_threads(self._threads), self._interrupts.heard_by(cancel):
            yield

    # ---- facts --------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        return self.config.capabilities

    @property
    def facts(self) -> DeviceFacts:
        home = self._home
        name = torch.cuda.get_device_name(home.device) if home.is_cuda else home.device.type
        return DeviceFacts(",".join(map(str, self._devices)) or str(home.device), self._numbers, name)

    @property
    def _numbers(self) -> str:
        """The dtype, and whatever else of the arithmetic is not that of the published model."""
        encoder = next(self._modules.grounding.image_encoder.parameters()).dtype
        said = [str(self._home.dtype)]
        if self._quantize is not None:
            said.append(f"layers {self._quantize}")
        if encoder != self._home.dtype:
            said.append(f"image encoder {encoder}")
        if self._pace.window > 1:
            said.append(f"memories pooled {self._pace.window}x{self._pace.window}")
        return ", ".join(said).replace("torch.", "")

    @property
    def _home(self) -> torch.Tensor:
        """A parameter that lies where the model's inputs go, in the dtype that they have."""
        return self._modules.grounding.no_object_pointer

    # ---- words --------------------------------------------------------------------------------

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
        region = region_input(picture, mask, self.config.region_grid)
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

    # ---- masks --------------------------------------------------------------------------------

    def masks_from_words(
        self,
        source: FrameSource,
        seg_prompts: NDArray[np.float32],
        *,
        mode: str = "sa2va",
        key_positions: Sequence[int] = (0,),
        wishes: MaskWishes = USUAL_WISHES,
        cancel: CancelToken | None = None,
    ) -> Iterator[FrameMasks]:
        """Masks for (N, C) prompt embeddings on every frame of the clip, key frames first. A clip of
        one frame is answered by the language decoder in both modes."""
        own = self.config.grounding.gate_masks
        propagator = self.propagator(
            gate=wishes.gate and (own or mode == "sa2va-i"),
            gate_key_frames=wishes.gate and own,
            wishes=wishes,
            cancel=cancel,
        )
        embeddings = self._to_device(seg_prompts)
        if mode == "sa2va-i" and len(source) > 1:
            walk = propagator.language_masks(source, key_positions, embeddings)
        else:
            walk = propagator.language(source, key_positions, embeddings)
        return _guarded(walk)

    def masks_from_masks(
        self,
        source: FrameSource,
        masks: NDArray[np.bool_],
        position: int,
        *,
        wishes: MaskWishes = USUAL_WISHES,
        cancel: CancelToken | None = None,
    ) -> Iterator[FrameMasks]:
        """Track (N, height, width) masks given on one frame, both ways."""
        propagator = self.propagator(gate=wishes.gate, wishes=wishes, cancel=cancel)
        return _guarded(propagator.masks(source, position, torch.from_numpy(masks).to(self._home.device)))

    @torch.inference_mode()
    def masks_from_points(
        self,
        picture: Picture,
        prompts: Sequence[PointPrompt],
        *,
        key: Hashable | None = None,
        cancel: CancelToken | None = None,
    ) -> FrameMasks:
        """A mask per box or set of points, by the checkpoint's own SAM-2 head; `key` is that of the frame
        (`FrameSource.key_of`)."""
        propagator = self.propagator(gate=False, cancel=cancel)
        grounding, side = self._modules.grounding, self.config.grounding.image_size
        with memory_guard("Segmenting the region"):
            features = propagator.encode(picture, key)
            results = []
            for prompt in prompts:
                points = self._to_device(np.asarray(prompt.points_xy, np.float32))[None].float() * side
                labels = torch.tensor([prompt.labels], dtype=torch.int32, device=points.device)
                sparse = grounding.point_prompt(points, labels, multimask=len(prompt.labels) == 1)
                decoded = grounding.decode(features, grounding.without_memory(features), sparse)
                chosen = grounding.choose(decoded, gate=False)
                results.append(propagator.result(0, chosen, picture.shape[:2]))
        return FrameMasks(
            0,
            np.concatenate([result.masks for result in results]),
            np.concatenate([result.object_scores for result in results]),
            np.concatenate([result.mask_scores for result in results]),
        )

    def memory_estimate(self, objects: int, *, video: bool) -> MemoryEstimate:
        """What following that many objects wants."""
        weights = sum(each.numel() * each.element_size() for each in self._modules.parameters())
        return estimate(
            self.config,
            str(self._home.dtype).removeprefix("torch."),
            Work(min(objects, self._pace.group), video),
            device=self._home.device.type,
            weights=weights,
        )

    def kept_frames(self, source: FrameSource) -> int:
        """Frames that need not be encoded again."""
        keys = (source.key_of(position) for position in range(len(source)))
        return sum(key is not None and (KIND, key) in self.cache for key in keys)

    def propagator(
        self,
        *,
        gate: bool,
        gate_key_frames: bool = False,
        wishes: MaskWishes = USUAL_WISHES,
        cancel: CancelToken | None = None,
    ) -> Propagator:
        """The tracker over this checkpoint's SAM-2, at a pace that the memory seems to allow."""
        room = free_bytes(self._home.device)
        pace = fitting_pace(self.config, self._pace, self._home.element_size(), room)
        if pace != self._pace:
            self.tally.relieved(f"frames were encoded {pace.batch} at once, objects followed {pace.group}")
        return Propagator(
            self._modules.grounding,
            gate=gate,
            gate_key_frames=gate_key_frames,
            wishes=wishes,
            memory_dtype=self._memory_dtype,
            pace=pace,
            cache=self.cache,
            tally=self.tally,
            cancel=cancel,
        )

    def _to_device(self, array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._home.device, self._home.dtype)


def _guarded(walk: Iterator[FrameMasks]) -> Iterator[FrameMasks]:
    """Each step without gradients and with the memory guard; a plain decorator would leave
    inference mode on between the steps."""
    while True:
        with torch.inference_mode(), memory_guard("Propagating the masks"):
            try:
                item = next(walk)
            except StopIteration:
                return
        yield item
