"""For tests of code built on sa2va-tools: a fake engine with the whole interface, and small clips."""

from sa2va_tools.testing.clips import synthetic_clip
from sa2va_tools.testing.fake_engine import ABSENT_WORD, FakeEngine

__all__ = ["ABSENT_WORD", "FakeEngine", "synthetic_clip"]
