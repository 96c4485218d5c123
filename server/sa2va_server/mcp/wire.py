"""Tools and their results as messages of the Model Context Protocol. Runs nothing."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from mcp.types import (
    CallToolResult,
    ContentBlock,
    ImageContent,
    ResourceLink,
    TextContent,
    ToolAnnotations,
)
from mcp.types import Tool as WireTool

from sa2va_server.mcp.completion import MASK_URI
from sa2va_tools.tools.base import Picture, Tool, ToolOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOptions:
    """What clients differ in. The text and the structured content of a result each stand alone."""

    strict_schemas: bool = False
    """List tools with the arguments' schemas in the form that OpenAI's strict mode requires."""
    resource_links: bool = False
    """Add a link to the RLE of each mask, for hosts that read resources. Many clients fail on such links."""
    picture_first: bool = False
    """Put the picture of `view` before its legend, for frameworks that read only the first content."""


DEFAULT_WIRE = WireOptions()


def make_tool(tool: Tool[Any], options: WireOptions) -> WireTool:
    """An entry of the list of tools."""
    return WireTool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema(strict=options.strict_schemas),
        output_schema=tool.output_schema(),
        annotations=ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
    )


def make_result(output: ToolOutput, options: WireOptions) -> CallToolResult:
    """The result of a call."""
    text = TextContent(type="text", text=output.text)
    pictures = [_image(picture) for picture in output.pictures]
    content: list[ContentBlock] = [*pictures, text] if options.picture_first else [text, *pictures]
    if options.resource_links:
        content += [_mask_link(handle) for handle in output.mask_handles()]
    return CallToolResult(content=content, structured_content=output.as_dict())


def _image(picture: Picture) -> ImageContent:
    data = base64.b64encode(picture.data).decode("ascii")
    return ImageContent(type="image", data=data, mime_type=picture.mime_type)


def _mask_link(handle: str) -> ResourceLink:
    return ResourceLink(
        type="resource_link",
        uri=MASK_URI.format(mask_id=handle.partition(":")[2]),
        name=handle,
        description="COCO RLE of each frame.",
        mime_type="application/json",
    )
