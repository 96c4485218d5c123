"""A job on the model, from its beginning to its record, about media that stay as they are meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.job import Job
from sa2va_tools.engine.key_frames import FramePlan
from sa2va_tools.engine.library import Library, Opened
from sa2va_tools.engine.model_host import ModelHost
from sa2va_tools.engine.recording import Recorder
from sa2va_tools.errors import MediaUnreadableError, RequestError
from sa2va_tools.model.output import USUAL_WISHES, MaskWishes
from sa2va_tools.progress import CancelToken, ProgressCallback


@contextmanager
def started(
    host: ModelHost,
    library: Library,
    opened: Opened,
    clip: Clip,
    on_progress: ProgressCallback,
    cancel: CancelToken | None,
    *,
    max_new_tokens: int | None = None,
    wishes: MaskWishes = USUAL_WISHES,
) -> Iterator[Job]:
    """The model at work on a clip of `opened`. Raises what `ModelHost.use` does, and RequestError."""
    most = host.settings.max_new_tokens if max_new_tokens is None else max_new_tokens
    if most < 1:
        raise RequestError(f"max_new_tokens is {most}; at least 1 is needed.")
    with host.use(on_progress, cancel) as runtime:
        job = Job(runtime, clip, on_progress, cancel, most, wishes)
        try:
            with job.refusing():
                yield job
        except BaseException:
            # What was seen up to here is kept for later calls, also by a cancelled one.
            if library.has_changed(opened):
                runtime.cache.clear()
            raise


def recorder_of(job: Job, library: Library, opened: Opened, plan: FramePlan) -> Recorder:
    """Raises MediaUnreadableError where what was seen is no longer what was opened."""
    if library.has_changed(opened):
        job.runtime.cache.clear()  # it holds other frames under this media's name
        raise MediaUnreadableError(
            f"{opened.ref.name} changed while it was worked on.",
            hint="Ask again: what is there now is another image or video.",
        )
    return Recorder(library.store, opened, job.clip, job.provenance(plan.mode, plan.seen), job.cancel)
