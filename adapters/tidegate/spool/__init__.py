"""The disk buffer: store-and-forward is a bridge into it and a bridge out of it."""

from tidegate.spool.chunk import MESSAGE_OVERHEAD
from tidegate.spool.file import SpoolError
from tidegate.spool.spool import Spool, SpoolOptions, SpoolQueue, WhenFull

__all__ = ["MESSAGE_OVERHEAD", "Spool", "SpoolError", "SpoolOptions", "SpoolQueue", "WhenFull"]
