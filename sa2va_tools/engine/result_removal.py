"""Removing stored results, within what the access policy allows. Needs no model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from sa2va_tools.engine.library import Library
from sa2va_tools.engine.stored_results import require_readable
from sa2va_tools.errors import RequestError, StoreError
from sa2va_tools.run import Run
from sa2va_tools.store.handles import parse_kind
from sa2va_tools.store.records import AnswerRecord
from sa2va_tools.store.removal import Removal, plan_removal, remove_planned

_ALWAYS_NS = 2**63 - 1


def remove_results(
    library: Library, handles: Sequence[str], older_than_s: float | None, *, dry_run: bool, run: Run
) -> Removal:
    """See `Engine.remove_results`; an age of minus infinity means everything."""
    before_ns = None
    if older_than_s is not None:
        before_ns = _ALWAYS_NS if older_than_s < 0 else max(0, time.time_ns() - int(older_than_s * 1e9))
    for handle in handles:
        _require_access(library, handle, run)
    plan = plan_removal(
        library.store,
        handles,
        before_ns=before_ns,
        may_remove=lambda record: _may_remove(library, record),
    )
    run.raise_if_cancelled()
    return plan.summarize() if dry_run else remove_planned(library.store, plan)


def _require_access(library: Library, handle: str, run: Run) -> None:
    """AccessDeniedError for a result about something that this engine may not read."""
    if library.access.roots is None or parse_kind(handle) is None:
        return  # `plan_removal` refuses what is no handle
    require_readable(library, library.find_media_handle(handle, handle.partition(":")[0], run))


def _may_remove(library: Library, record: AnswerRecord | None) -> bool:
    """Of a store that others use as well, an engine with roots removes only what it may read."""
    if library.access.roots is None:
        return True
    if record is None or record.media_handle is None:
        return False
    with suppress(StoreError, RequestError):
        return library.may_list(record.media_handle, library.store.recall_media(record.media_handle))
    return False
