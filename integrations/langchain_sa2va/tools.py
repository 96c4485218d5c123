"""One LangChain tool class per tool of the catalogue. Only translates; knows nothing of what the tools do."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

from langchain_core.callbacks import AsyncCallbackManagerForToolRun, CallbackManagerForToolRun
from langchain_core.messages.content import ContentBlock, create_image_block, create_text_block
from langchain_core.tools import ArgsSchema, BaseTool, ToolException
from pydantic import BaseModel, ValidationError

from langchain_sa2va.common_fields import CommonFields
from langchain_sa2va.progress import start_run
from sa2va_tools.errors import Sa2vaError
from sa2va_tools.run import Run
from sa2va_tools.tools.base import Tool
from sa2va_tools.tools.catalogue import CATALOGUE
from sa2va_tools.tools.explaining import explain

ContentAndArtifact = tuple[list[ContentBlock], dict[str, Any]]


class Sa2VATool(CommonFields, BaseTool):
    """Base of the generated classes.

    Without `engine`, the first call opens one for `model`, which reads only under `roots`, else under
    SA2VA_ROOTS, else nothing. The content of a result is for the model: text, and the picture of `view`. The
    artifact is the whole structured result, without pictures. Errors that the caller can correct come back
    as a ToolMessage with status `error`. Progress goes to `on_progress`, to the callbacks of the call as the
    custom event `sa2va_progress`, and to the custom stream of a LangGraph graph.
    """

    tool: ClassVar[Tool[Any]]

    name: str = ""
    description: str = ""
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[ToolException], str] | None = True

    @property
    def tool_call_schema(self) -> ArgsSchema:
        """The catalogue's own schema, so that a model sees the same one through every front end."""
        schema = self.tool.input_schema(strict=self.strict_schemas)
        return {"title": self.name, "description": self.description, **schema}

    def _run(
        self, *, run_manager: CallbackManagerForToolRun | None = None, **arguments: Any
    ) -> ContentAndArtifact:
        return self._call(arguments, start_run(self.name, self.on_progress, run_manager))

    async def _arun(
        self, *, run_manager: AsyncCallbackManagerForToolRun | None = None, **arguments: Any
    ) -> ContentAndArtifact:
        """In a worker thread. Cancelling the task cancels the work, and waits until it has stopped."""
        listeners = None if run_manager is None else run_manager.get_sync()
        run = start_run(self.name, self.on_progress, listeners)
        return await self._shared.threads.call(partial(self._call, arguments, run), run)

    def _call(self, arguments: dict[str, Any], run: Run) -> ContentAndArtifact:
        try:
            output = self.tool.run(self._shared.get(), self.tool.parse(arguments), run)
        except Sa2vaError as error:
            raise ToolException(str(error)) from error
        content: list[ContentBlock] = [create_text_block(output.text)]
        content += [
            create_image_block(
                base64=base64.b64encode(picture.data).decode("ascii"), mime_type=picture.mime_type
            )
            for picture in output.pictures
        ]
        return content, output.as_dict() or {"text": output.text}


def _explain_error(arguments: type[BaseModel], error: ValidationError) -> str:
    return str(explain(error, arguments))


def make_tool_class(tool: Tool[Any]) -> type[Sa2VATool]:
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
        "handle_validation_error": partial(_explain_error, tool.arguments),
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
