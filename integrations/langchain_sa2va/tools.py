"""One LangChain tool class per tool of the catalogue. Translates; knows nothing of what tools do."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from langchain_core.messages.content import ContentBlock, create_image_block, create_text_block
from langchain_core.tools import ArgsSchema, BaseTool, ToolException
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from sa2va_tools import shortage
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import Sa2vaError
from sa2va_tools.progress import CancelToken, ProgressCallback, ignore_progress
from sa2va_tools.settings import Settings
from sa2va_tools.tools.arguments import ToolArguments, explain
from sa2va_tools.tools.base import Tool, ToolOutput
from sa2va_tools.tools.catalogue import CATALOGUE
from sa2va_tools.tools.shared_engine import SharedEngine

ContentAndArtifact = tuple[list[ContentBlock], dict[str, Any]]


class Sa2VATool(BaseTool):
    """Base of the generated classes.

    Without `engine`, `Engine.load(model)` opens one at the first call. The content of a result is for
    the model (text, and pictures of `view`); the artifact is the whole structured result. What a caller
    can put right comes back as a ToolMessage with status `error`.
    """

    tool: ClassVar[Tool[Any]]

    name: str = ""
    description: str = ""
    engine: Engine | SharedEngine | None = Field(None, exclude=True, repr=False)
    model: str | None = Field(None, description="`nano` or a checkpoint's folder; None: the settings' one.")
    on_progress: ProgressCallback = Field(ignore_progress, exclude=True, repr=False)
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[ToolException], str] | None = True

    _shared: SharedEngine = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        given = self.engine
        self._shared = given if isinstance(given, SharedEngine) else SharedEngine(given or self._open)

    def _open(self) -> Engine:
        return Engine.load(self.model, settings=Settings.read())

    @property
    def tool_call_schema(self) -> ArgsSchema:
        """The catalogue's own schema, so that a model sees the same one through every front end."""
        return {"title": self.name, "description": self.description, **self.tool.input_schema()}

    def _run(self, **arguments: Any) -> ContentAndArtifact:
        return self._call(arguments, CancelToken())

    async def _arun(self, **arguments: Any) -> ContentAndArtifact:
        """In a worker thread. When the task is cancelled, so is the work, and it is waited for."""
        cancel = CancelToken()
        work = asyncio.ensure_future(asyncio.to_thread(self._call, arguments, cancel))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancel.cancel()
            await asyncio.wait([work])
            work.exception()
            raise

    def _call(self, arguments: dict[str, Any], cancel: CancelToken) -> ContentAndArtifact:
        try:
            parsed = self.tool.parse(arguments)
            output = self.tool.run(self._shared.get(), parsed, self.on_progress, cancel)
        except Sa2vaError as error:
            raise ToolException(str(error)) from error
        except Exception as error:
            short = shortage.told(error)
            if short is None:
                raise
            raise ToolException(str(short)) from error
        return _content_of(output), _artifact_of(output)


def tool_class(tool: Tool[Any]) -> type[Sa2VATool]:
    """`Sa2VASegmentByTextTool` for `segment_by_text`, and so on."""
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
        "handle_validation_error": _explained_for(tool.arguments),
    }
    return type(name, (Sa2VATool,), namespace)


def _explained_for(arguments: type[ToolArguments]) -> Callable[[ValidationError], str]:
    def explained(error: ValidationError) -> str:
        return str(explain(error, arguments))

    return explained


def _content_of(output: ToolOutput) -> list[ContentBlock]:
    pictures = [
        create_image_block(base64=_base64(picture.data), mime_type=picture.mime_type)
        for picture in output.pictures
    ]
    return [create_text_block(output.text), *pictures]


def _artifact_of(output: ToolOutput) -> dict[str, Any]:
    """The structured result, or what stands in its place for a tool that gives pictures."""
    return output.as_dict() or {
        "text": output.text,
        "pictures": [
            {"mime_type": picture.mime_type, "base64": _base64(picture.data)} for picture in output.pictures
        ],
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


TOOL_CLASSES: dict[str, type[Sa2VATool]] = {tool.name: tool_class(tool) for tool in CATALOGUE}
"""By the tool's name, in the catalogue's order."""

Sa2VADescribeTool = TOOL_CLASSES["describe"]
Sa2VASegmentByTextTool = TOOL_CLASSES["segment_by_text"]
Sa2VAGroundConversationTool = TOOL_CLASSES["ground_conversation"]
Sa2VACaptionRegionTool = TOOL_CLASSES["caption_region"]
Sa2VATrackRegionTool = TOOL_CLASSES["track_region"]
Sa2VAViewTool = TOOL_CLASSES["view"]
