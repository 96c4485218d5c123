"""One LangChain tool class per tool of the catalogue, and a toolkit of them all. Only translates; knows
nothing of what the tools do."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar, Literal

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.messages.content import ContentBlock, create_image_block, create_text_block
from langchain_core.tools import ArgsSchema, BaseTool, BaseToolkit, ToolException
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import Sa2vaError
from sa2va_tools.run import Progress, ProgressCallback, Run
from sa2va_tools.tools.base import SharedEngine, Tool
from sa2va_tools.tools.catalogue import CATALOGUE
from sa2va_tools.tools.explaining import explain

PROGRESS_EVENT = "sa2va_progress"
"""Name of the custom event with the fields of `sa2va_tools.Progress`, for callback handlers and
`astream_events`."""

ContentAndArtifact = tuple[list[ContentBlock], dict[str, Any]]


class _EngineFields(BaseModel):
    """Which engine is used, and who hears of progress."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    engine: Engine | SharedEngine | None = Field(None, exclude=True, repr=False)
    model: str | None = Field(
        None,
        description="`nano`, a hub id that was pulled, or a checkpoint's folder; None: as in the settings.",
    )
    on_progress: ProgressCallback | None = Field(None, exclude=True, repr=False)

    _shared: SharedEngine = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        engine = self.engine or self._open_engine
        self._shared = engine if isinstance(engine, SharedEngine) else SharedEngine(engine)

    def _open_engine(self) -> Engine:
        from sa2va_tools.engine.loading import load_engine

        return load_engine(self.model)


class Sa2VATool(_EngineFields, BaseTool):
    """Base of the generated classes.

    Without `engine`, the first call opens one with `load_engine(model)`. The content of a result is for the
    model: text, and the picture of `view`. The artifact is the whole structured result. Errors that the
    caller can correct come back as a ToolMessage with status `error`. Progress goes to `on_progress`, and to
    the callbacks of the call as the custom event `sa2va_progress`.
    """

    tool: ClassVar[Tool[Any]]

    name: str = ""
    description: str = ""
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[ToolException], str] | None = True

    @property
    def tool_call_schema(self) -> ArgsSchema:
        """The catalogue's own schema, so that a model sees the same one through every front end."""
        return {"title": self.name, "description": self.description, **self.tool.input_schema()}

    def _run(
        self, *, run_manager: CallbackManagerForToolRun | None = None, **arguments: Any
    ) -> ContentAndArtifact:
        return self._call(arguments, self._start_run(run_manager))

    async def _arun(
        self, *, run_manager: AsyncCallbackManagerForToolRun | None = None, **arguments: Any
    ) -> ContentAndArtifact:
        """In a worker thread. Cancelling the task cancels the work, and waits until it has stopped."""
        run = self._start_run(None if run_manager is None else run_manager.get_sync())
        work = asyncio.ensure_future(asyncio.to_thread(self._call, arguments, run))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            run.cancel()
            await asyncio.wait([work])
            work.exception()  # retrieved, so that asyncio does not report it as lost
            raise

    def _start_run(self, run_manager: CallbackManagerForToolRun | None) -> Run:
        """A run whose progress reaches `on_progress` and the callbacks."""
        callbacks = None if run_manager is None else run_manager.get_child()

        def report(progress: Progress) -> None:
            if self.on_progress is not None:
                self.on_progress(progress)
            if callbacks is not None:
                callbacks.on_custom_event(PROGRESS_EVENT, asdict(progress), run_id=callbacks.parent_run_id)

        return Run(report)

    def _call(self, arguments: dict[str, Any], run: Run) -> ContentAndArtifact:
        try:
            output = self.tool.run(self._shared.get(), self.tool.parse(arguments), run)
        except Sa2vaError as error:
            raise ToolException(str(error)) from error
        pictures = [
            {"mime_type": picture.mime_type, "base64": base64.b64encode(picture.data).decode("ascii")}
            for picture in output.pictures
        ]
        content: list[ContentBlock] = [create_text_block(output.text)]
        content += [create_image_block(**picture) for picture in pictures]
        return content, output.as_dict() or {"text": output.text, "pictures": pictures}


def make_tool_class(tool: Tool[Any]) -> type[Sa2VATool]:
    """`Sa2VASegmentByTextTool` for `segment_by_text`, and so on."""

    def explain_error(error: ValidationError) -> str:
        return str(explain(error, tool.arguments))

    name = "Sa2VA" + "".join(part.capitalize() for part in tool.name.split("_")) + "Tool"
    namespace: dict[str, Any] = {
        "__module__": __name__,
        "__qualname__": name,
        "__doc__": tool.description,
        "__annotations__": {
            "tool": ClassVar[Tool[Any]],
            "name": str,
            "description": str,
            "args_schema": type[BaseModel],
            "handle_validation_error": Callable[[ValidationError], str],
        },
        "tool": tool,
        "name": tool.name,
        "description": tool.description,
        "args_schema": tool.arguments,
        "handle_validation_error": explain_error,
    }
    return type(name, (Sa2VATool,), namespace)


TOOL_CLASSES: dict[str, type[Sa2VATool]] = {tool.name: make_tool_class(tool) for tool in CATALOGUE}
"""Tool classes by the tool's name, in the catalogue's order."""

Sa2VADescribeTool = TOOL_CLASSES["describe"]
Sa2VASegmentByTextTool = TOOL_CLASSES["segment_by_text"]
Sa2VAGroundConversationTool = TOOL_CLASSES["ground_conversation"]
Sa2VACaptionRegionTool = TOOL_CLASSES["caption_region"]
Sa2VATrackRegionTool = TOOL_CLASSES["track_region"]
Sa2VAViewTool = TOOL_CLASSES["view"]


class Sa2VAToolkit(_EngineFields, BaseToolkit):
    """Every tool of the catalogue, all over one engine.

    Without `engine`, the first call opens one with `load_engine(model)`; then `close()` releases it.
    """

    model_config = ConfigDict(extra="forbid")

    def get_tools(self) -> list[BaseTool]:
        """The tools, in the catalogue's order."""
        return [kind(engine=self._shared, on_progress=self.on_progress) for kind in TOOL_CLASSES.values()]

    def close(self) -> None:
        """Release the engine. The next call opens it again."""
        self._shared.close()
