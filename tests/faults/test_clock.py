"""A wall clock that jumps, as on a host without a battery for its clock once it finds a time server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.observe import books, gateway, until_link, until_settled
from tests.support.checker import balance, envelopes, nats_client
from tests.support.gateway import GatewayProcess, write_config
from tests.support.generator import device
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


class Clock:
    """A wall clock that a test moves. The monotonic clock stays right, as it does in a kernel whose time is set."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")

    def set(self, offset: str) -> None:
        """Move it: "-3600" seconds, "+10y"."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.rename(self._file)

    @contextmanager
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Let the processes see it that are started in here."""
        with monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(FAKETIME))
            patch.setenv("FAKETIME_TIMESTAMP_FILE", str(self._file))
            patch.setenv("FAKETIME_NO_CACHE", "1")
            patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            patch.setenv("DONT_FAKE_MONOTONIC", "1")
            yield


@pytest.mark.slow
@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed (apt install faketime)")
async def test_f26_a_clock_that_jumps_neither_stalls_nor_expires_nor_reorders_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back and ten years on, with NATS there and with NATS away, and over a restart with a spool."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port, more="spool: {max_age: 1d}\n")
        numbers = (range(first, first + 200) for first in range(0, 10_000, 200))
        clock = Clock(tmp_path)
        async with AsyncExitStack() as stack:
            with clock.seen(monkeypatch):
                running = await stack.enter_async_context(gateway(config, http))
            sensor = await stack.enter_async_context(device(broker))
            for offset in ("+0", "-3600", "+10y", "+0"):
                clock.set(offset)
                await sensor.send(next(numbers))
                await eventually(lambda: _received_all(running, sensor.acknowledged), "everything is received")
                await until_settled(running)
            await server.stop()
            await until_link(running, "nats", up=False)
            for offset in ("+0", "-3600", "+10y"):
                clock.set(offset)
                await sensor.send(next(numbers))
                await eventually(lambda: _received_all(running, sensor.acknowledged), "everything is received")
            await eventually(lambda: _spooled(running, 600), "the spool has everything")
            await running.kill()
            with clock.seen(monkeypatch):
                await running.start(ready=False)
            await eventually(lambda: _spooled(running, 600), "the spool still has everything", 5)
            await server.start()
            await until_settled(running)
            assert await running.total("tidegate_messages_dropped_total") == 0
            async with nats_client(server.port) as client:
                events = await envelopes(client)
            result = balance(events, sensor.name, sensor.acknowledged)
            assert (result.stored, result.lost, result.doubled) == (1400, set(), {})
            assert [event.data["seq"] for event in events] == list(range(1400))
            assert [_years_on(event.time) for event in events[100::200]] == [0, 0, 10, 0, 0, 0, 10]
            assert events[300].time < events[100].time


def _years_on(time: datetime) -> int:
    return round((time - datetime.now(UTC)).days / 365)


async def _received_all(running: GatewayProcess, acknowledged: set[int]) -> bool:
    return (await books(running)).received >= len(acknowledged)


async def _spooled(running: GatewayProcess, count: int) -> bool:
    found = await books(running)
    return found.spooled == count and not found.in_flight
