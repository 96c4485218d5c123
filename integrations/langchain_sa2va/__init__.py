"""Sa2VA for LangChain: find, mask, track and describe things in images and videos.

from langchain_sa2va import Sa2VAToolkit

tools = Sa2VAToolkit(roots=["/path/to/your/media"]).get_tools()
"""

from sa2va_tools.errors import MissingExtraError

try:
    import langchain_core as _core  # noqa: F401 - asked first, so that its lack is told in a sentence
except ModuleNotFoundError:
    raise MissingExtraError("langchain-core", "langchain") from None

from langchain_sa2va.pictures import move_pictures
from langchain_sa2va.progress import PROGRESS_EVENT
from langchain_sa2va.toolkit import Sa2VAToolkit
from langchain_sa2va.tools import (
    Sa2VACaptionRegionTool,
    Sa2VADescribeTool,
    Sa2VAGroundConversationTool,
    Sa2VASegmentByTextTool,
    Sa2VATool,
    Sa2VATrackRegionTool,
    Sa2VAViewTool,
)

__all__ = [
    "PROGRESS_EVENT",
    "Sa2VACaptionRegionTool",
    "Sa2VADescribeTool",
    "Sa2VAGroundConversationTool",
    "Sa2VASegmentByTextTool",
    "Sa2VATool",
    "Sa2VAToolkit",
    "Sa2VATrackRegionTool",
    "Sa2VAViewTool",
    "move_pictures",
]
