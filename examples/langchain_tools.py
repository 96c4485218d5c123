"""The tools for LangChain agents, here called by hand. Needs the clip that `sa2va demo` makes."""

from __future__ import annotations

from langchain_sa2va import Sa2VAToolkit

toolkit = Sa2VAToolkit(model="nano", roots=["sa2va-demo"])  # agents may read this folder, and nothing else
tools = {tool.name: tool for tool in toolkit.get_tools()}
print(", ".join(tools))

call = {
    "type": "tool_call",
    "id": "1",
    "name": "segment_by_text",
    "args": {"media": "sa2va-demo/clip.mp4", "expressions": ["the red circle"]},
}
message = tools["segment_by_text"].invoke(call)
print(message.text)
print("handle in the artifact:", message.artifact["handle"])
toolkit.close()
