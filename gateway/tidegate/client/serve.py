"""Running services as a process."""

from __future__ import annotations

import asyncio
import signal

from tidegate.client.subscriber import Service


async def serve(*services: Service) -> None:
    """Run workers and subscribers until SIGTERM or SIGINT, then stop them in order: what is being handled is finished.

    If one ends with an error the others are cancelled, and the error is raised, in an ExceptionGroup.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for service in services:
            service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        async with asyncio.TaskGroup() as tasks:
            for service in services:
                tasks.create_task(service.run())
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
