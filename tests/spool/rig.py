"""What the tests of the spool share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tidegate.core import Batch, IdSource, Message
from tidegate.spool import Spool, SpoolOptions, SpoolQueue

_IDS = IdSource()


def message(number: int, size: int = 0) -> Message:
    """Return a numbered message with a payload of about that many bytes."""
    return Message(b"sensors/hall/d1/reading", b"%d " % number + b"x" * size, _IDS.take(1)[0], 1, received=1e9 + number)


def messages(numbers: Iterable[int], size: int = 0) -> list[Message]:
    """Return numbered messages."""
    return [message(number, size) for number in numbers]


def numbers(batches: Iterable[Batch]) -> list[int]:
    """Return the numbers of the messages, in order."""
    return [int(one.payload.split()[0]) for batch in batches for one in batch.messages]


def spool(folder: Path, **options: Any) -> Spool:
    """Return a spool that is not yet open."""
    return Spool(SpoolOptions(path=folder / "spool.db", **options))


async def put(queue: SpoolQueue, wanted: Iterable[int], size: int = 0) -> int:
    """Put numbered messages in as one append; return how many are on the disk."""
    return await asyncio.wait_for(await asyncio.wait_for(queue.append(messages(wanted, size)), 10), 10)


async def take(queue: SpoolQueue, count: int) -> list[Batch]:
    """Receive batches until they hold that many messages."""
    batches: list[Batch] = []
    async with asyncio.timeout(10):
        while sum(len(batch.messages) for batch in batches) < count:
            batches.append(await queue.receive())
    return batches


async def nothing_comes(queue: SpoolQueue) -> bool:
    """Whether `receive` waits. What must not come can't be awaited, so this gives it a moment."""
    receiving = asyncio.create_task(queue.receive())
    done, _ = await asyncio.wait([receiving], timeout=0.1)
    receiving.cancel()
    await asyncio.wait([receiving])
    return not done


def size_on_disk(folder: Path) -> int:
    """Return the bytes of the spool's files."""
    return sum(path.stat().st_size for path in folder.glob("spool.db*"))
