"""Sa2VA for LangChain: find, mask, track and describe things in images and videos.

from langchain_sa2va import Sa2VAToolkit

tools = Sa2VAToolkit().get_tools()
"""

from langchain_sa2va.tools import (
    PROGRESS_EVENT,
    Sa2VACaptionRegionTool,
    Sa2VADescribeTool,
    Sa2VAGroundConversationTool,
    Sa2VASegmentByTextTool,
    Sa2VATool,
    Sa2VAToolkit,
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
]
