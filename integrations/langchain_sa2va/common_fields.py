"""What the toolkit and every tool are made with; above all an engine, or what opens one under the access
policy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, PrivateAttr

from sa2va_tools.engine.access import ANY, Roots, check_roots, open_agent_engine
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import RequestError
from sa2va_tools.run import ProgressCallback
from sa2va_tools.tools.base import SharedEngine

_ENGINE_FIELDS = ("engine", "model", "roots")


def _check_roots(roots: Roots | None) -> Roots | None:
    """Real paths, so that a worker with another working folder reads the same."""
    if roots is None:
        return None
    paths = check_roots(roots)
    return ANY if paths is None else paths


class CommonFields(BaseModel):
    """Which engine is used, what it may read, who hears of progress, and which schemas a model is shown.

    Copies share the engine. A pickled object opens an engine of its own in the other process; an engine that
    was handed in cannot go there, and pickling says so.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    engine: Engine | None = Field(None, exclude=True, repr=False, frozen=True)
    """An engine that you opened. It reads what you opened it for: with `load_engine()`, everything."""
    model: str | None = Field(
        None,
        frozen=True,
        description="`nano`, a hub id that was pulled, or a checkpoint's folder; None: as in the settings.",
    )
    roots: Annotated[Roots | None, PlainValidator(_check_roots)] = Field(
        None,
        frozen=True,
        description="The folders that may be read, or `any`. None: those of SA2VA_ROOTS, else nothing.",
    )
    on_progress: ProgressCallback | None = Field(None, exclude=True, repr=False)
    strict_schemas: bool = Field(
        False,
        description="Show models the arguments in the form that OpenAI's strict mode takes as it is: every "
        "argument is required, and null stands for one that is not given.",
    )

    _shared: SharedEngine = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        self._choose_engine()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy that shares the engine, unless `update` names another one, another model or other roots."""
        update = dict(update or {})
        if "roots" in update:
            update["roots"] = _check_roots(update["roots"])
        copied = super().model_copy(update=update, deep=deep)
        if update.keys() & set(_ENGINE_FIELDS):
            copied._choose_engine()
        return copied

    def share_engine(self, shared: SharedEngine) -> None:
        """Use the engine of another object with the same engine, model and roots."""
        self._shared = shared

    def _choose_engine(self) -> None:
        if self.engine is None:
            how = f"`{type(self).__name__}(roots=[DIR])` or the variable SA2VA_ROOTS"
            self._shared = SharedEngine(
                partial(open_agent_engine, self.roots, how_to_open=how, model=self.model)
            )
            return
        if self.model is not None or self.roots is not None:
            raise RequestError(
                "An engine is given, and also model or roots, which an engine already has.",
                hint="Give either the engine, opened with load_engine(model, roots=…), or model and roots.",
            )
        self._shared = SharedEngine(self.engine)
