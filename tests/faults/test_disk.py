"""The disk under the gateway: full, damaged, not there, somebody else's; and the order of fsync and PUBACK."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.observe import gateway, until_settled, verdict
from tests.support.checker import balance, envelopes, nats_client
from tests.support.fake_broker import fake_broker
from tests.support.gateway import GatewayProcess, write_config
from tests.support.generator import device, publish_packet, reading
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port

SPOOL = "spool: {{max_bytes: {bytes}, when_full: {when_full}}}\n"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 8 MB; skip where that is not permitted."""
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount command")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a tmpfs can't be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fat(name: str, number: int) -> bytes:
    """Return a numbered reading of about 10 KB."""
    return reading(name, number)[:-1] + b', "more": "' + b"x" * 10_000 + b'"}'


# F17


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["disk", "max_bytes"])
async def test_f17_a_full_spool_that_blocks_acknowledges_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, limit: str
) -> None:
    """1500 messages of 10 KB are more than either limit; the broker keeps what was not acknowledged."""
    async with _full(tmp_path, limit, "block") as (running, server, sensor):
        await sensor.send(range(1500), payload=fat)
        await eventually(lambda: _not_ready(running), "the gateway says that it is full", 30)
        held = await running.total("tidegate_messages_in_flight")
        assert held > 0
        assert await running.total("tidegate_messages_dropped_total") == 0
        await server.start()
        result = await verdict(running, server.port, sensor)
        assert (result.stored, result.lost, result.doubled) == (1500, set(), {})
        assert await running.ready()


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["disk", "max_bytes"])
@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest"])
async def test_f17_a_full_spool_that_drops_counts_what_it_gives_up_and_goes_on(
    tmp_path: Path, limit: str, when_full: str
) -> None:
    async with _full(tmp_path, limit, when_full) as (running, server, sensor):
        await sensor.send(range(1500), payload=fat)
        await eventually(lambda: _all_taken(running, 1500), "everything is received and settled", 40)
        dropped = {labels: count for (name, labels), count in (await running.metrics()).items() if "dropped_t" in name}
        assert [dict(labels)["reason"] for labels in dropped] == ["spool_full"]
        lost = sum(dropped.values())
        assert 0 < lost < 1500
        await server.start()
        await until_settled(running)
        async with nats_client(server.port) as client:
            found = [event.data["seq"] for event in await envelopes(client)]
        assert len(found) == 1500 - lost
        assert found == sorted(set(found))
        assert (1499 in found) == (when_full == "drop_oldest")
        assert (0 in found) == (when_full == "drop_newest")


@asynccontextmanager
async def _full(folder: Path, limit: str, when_full: str) -> AsyncIterator:
    """Run a gateway whose spool is small, with NATS stopped."""
    with contextlib.ExitStack() as disks:
        if limit == "disk":
            disks.enter_context(small_disk(folder / "state"))
        async with any_broker(folder / "mqtt") as port, nats_server(folder / "nats") as server:
            more = SPOOL.format(bytes="1GiB" if limit == "disk" else "2MiB", when_full=when_full)
            config, http = write_config(folder, port, server.port, more=more)
            async with gateway(config, http) as running, device(port) as sensor:
                await server.stop()
                yield running, server, sensor


async def _not_ready(running: GatewayProcess) -> bool:
    return not await running.ready()


async def _all_taken(running: GatewayProcess, count: int) -> bool:
    received = await running.total("tidegate_messages_received_total")
    return received >= count and await running.total("tidegate_messages_in_flight") == 0


# F3


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["write_through", "overflow"])
async def test_f3_no_puback_is_written_before_the_fdatasync_that_covers_its_message(tmp_path: Path, mode: str) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed (apt install strace)")
    async with fake_broker() as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port, more=f"spool: {{mode: {mode}}}\n")
        async with gateway(config, http, ready=False) as running:
            connection = await broker.connection()
            await connection.accept()
            await eventually(running.ready, "the gateway is ready")
            if mode == "overflow":
                await server.stop()
                await eventually(lambda: "not connected" in running.log_text() or None, "NATS is missed")
            assert running.process is not None
            trace = tmp_path / "trace"
            async with _traced(strace, running.process.pid, trace):
                for number in range(1, 6):
                    await connection.send(_publish(number))
                    first, body = await connection.read_packet()
                    assert (first, body[:2]) == (0x40, number.to_bytes(2, "big"))
    events = re.findall(r"(fdatasync|fsync|sendto|sendmsg|recvfrom|recv|read)\((\d+)", trace.read_text())
    _check_order(trace.read_text(), broker.port)
    assert events


@asynccontextmanager
async def _traced(strace: str, pid: int, output: Path) -> AsyncIterator[None]:
    calls = "fdatasync,fsync,write,sendto,sendmsg,recvfrom,read"
    command = (strace, "-f", "-yy", "-e", f"trace={calls}", "-s", "0", "-o", str(output), "-p", str(pid))
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    said = await process.stderr.readline()
    if b"attached" not in said:
        await process.wait()
        pytest.skip(f"strace may not attach here: {said.decode().strip()}")
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()


def _check_order(trace: str, port: int) -> None:
    """Between what is read from the broker and what is sent to it, the log of the spool must be synced.

    A PUBLISH of these is 150 bytes long, so it is told from a PINGRESP; a PUBACK is of 4, a PINGREQ of 2.
    """
    synced, pubacks = False, 0
    for line in _calls(trace):
        to_broker = f"->127.0.0.1:{port}]" in line
        size = int(found.group(1)) if (found := re.search(r"= (\d+)$", line)) else 0
        if to_broker and re.search(r"(recvfrom|read)\(", line) and size > 50:
            synced = False
        elif line.endswith("= 0") and re.search(r"(fdatasync|fsync)\(.*spool\.db-wal", line):
            synced = True
        elif to_broker and _written(line) >= 4:
            assert synced, f"a PUBACK before the fdatasync:\n{trace}"
            pubacks += 1
    assert pubacks == 5, trace


def _written(line: str) -> int:
    """Return how many bytes a call wants to write."""
    asked = re.search(r"(?:sendto|sendmsg|write)\(.*\.\.\., (\d+)", line)
    return int(asked.group(1)) if asked else 0


def _calls(trace: str) -> Iterator[str]:
    """Yield each call on one line: a write where it began, anything else where it ended."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread = line.split()[0]
        if "<unfinished" in line:
            begun[thread] = line.partition(" <unfinished")[0]
            if "write(" in line or "send" in line:
                yield line
        elif " resumed>" in line:
            start = begun.pop(thread, "")
            if "write(" not in start and "send" not in start:
                yield start + line.partition("resumed>")[2]
        else:
            yield line


def _publish(number: int) -> bytes:
    return publish_packet(b"sensors/hall/d1/reading", reading("d1", number), 1, number, properties=b"")


# F4


async def test_f4_with_a_damaged_spool_the_gateway_starts_delivers_the_rest_and_says_what_is_lost(
    tmp_path: Path,
) -> None:
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        async with gateway(config, http) as running, device(port) as sensor:
            await server.stop()
            for start in range(0, 400, 20):
                await sensor.send(range(start, start + 20), payload=fat)
            await eventually(lambda: _all_taken(running, 400), "everything is spooled")
            await running.stop()
            path = config.parent / "state" / "spool.db"
            with path.open("r+b") as file:
                file.seek(path.stat().st_size // 2)
                file.write(b"\xa5" * 40_000)
            await server.start()
            await running.start()
            lost = await running.total("tidegate_spool_damaged_total")
            await until_settled(running)
            lost += await running.total("tidegate_messages_dropped_total")
            assert "is damaged" in running.log_text() or "are damaged" in running.log_text()
            async with nats_client(server.port) as client:
                result = balance(await envelopes(client), sensor.name, sensor.acknowledged)
            assert len(result.lost) == lost > 0
            assert not result.doubled


# F19


async def _fails(config: Path) -> str:
    """Run a gateway that must end by itself with status 1; return what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tidegate.app.cli", "run", "-c", str(config), stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1, said
    return said.decode()


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("a-file", "File exists"),
        ("a-file/below", "Not a directory"),
        ("/proc/nowhere", "No such file or directory"),
        ("no-spool", "spool.db"),
        ("no-table", "packets-readings"),
    ],
)
async def test_f19_a_state_dir_that_is_of_no_use_ends_the_start_with_one_clear_line(
    tmp_path: Path, state: str, word: str
) -> None:
    (tmp_path / "a-file").write_text("precious")
    (tmp_path / "no-spool" / "spool.db").mkdir(parents=True)
    (tmp_path / "no-table" / "packets-readings").mkdir(parents=True)
    config, _ = write_config(tmp_path, free_port(), free_port())
    config.write_text(config.read_text().replace("state_dir: state", f"state_dir: {state}"))
    said = await _fails(config)
    (line,) = [line for line in said.splitlines() if line.startswith("tidegate: ")]
    assert word in line
    assert "Traceback" not in said
    assert (tmp_path / "a-file").read_text() == "precious"


@pytest.mark.slow
async def test_f19_a_second_gateway_on_the_same_state_dir_ends_and_harms_nothing(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        other = tmp_path / "other.yaml"
        other.write_text(config.read_text().replace(str(http), str(free_port())))
        async with gateway(config, http) as running, device(port) as sensor:
            await server.stop()
            await sensor.send(range(300))
            await eventually(lambda: _all_taken(running, 300), "everything is spooled")
            said = await _fails(other)
            assert "another gateway uses this state_dir" in said
            await server.start()
            result = await verdict(running, server.port, sensor)
            assert (result.stored, result.lost, result.doubled) == (300, set(), {})
