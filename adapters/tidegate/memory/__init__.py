"""In-process ends of a bridge: for tests, ours and users' own, in place of mocks."""

from tidegate.memory.sink import MemorySink
from tidegate.memory.source import MemorySource

__all__ = ["MemorySink", "MemorySource"]
