"""Files that are not what was written: the spool starts, keeps what is whole, and says what it could not keep."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from tests.spool.rig import nothing_comes, numbers, put, spool, take
from tests.support.wait import eventually
from tidegate.spool import SpoolError, SpoolQueue
from tidegate.spool.file import Row, SpoolFile

COUNT = 60


async def _filled(folder: Path) -> None:
    """Leave a spool with numbered messages in chunks of their own."""
    async with spool(folder) as opened:
        queue = opened.queue("q")
        for number in range(COUNT):
            await put(queue, [number], size=2000)


async def _reopened(folder: Path) -> tuple[list[int], int]:
    """Return what a reopened spool holds, and how many it says are lost; it must be of use, and so again."""
    async with spool(folder) as opened:
        queue = opened.queue("q")
        found: list[int] = []
        reading = asyncio.create_task(_read(queue, found))
        await eventually(lambda: len(found) == queue.messages, "everything whole is read")
        reading.cancel()
        await asyncio.wait([reading])
        damaged = opened.damaged + queue.dropped["spool_damaged"]
        assert await nothing_comes(queue)
        assert await put(queue, [COUNT]) == 1
    async with spool(folder) as opened:
        queue = opened.queue("q")
        assert numbers(await take(queue, len(found) + 1)) == [*found, COUNT]
        assert opened.damaged == 0
    return found, damaged


async def _read(queue: SpoolQueue, found: list[int]) -> None:
    while True:
        found += numbers([await queue.receive()])


def _aside(folder: Path) -> list[Path]:
    return sorted(folder.glob("spool.db.damaged-*"))


@pytest.mark.parametrize("seed", range(8))
async def test_f4_a_garbled_file_loses_only_what_is_garbled(tmp_path: Path, seed: int) -> None:
    await _filled(tmp_path)
    chance = random.Random(seed)
    path = tmp_path / "spool.db"
    data = bytearray(path.read_bytes())
    start = chance.randrange(4096, len(data))  # without its first page SQLite can read nothing
    size = chance.choice((1, 100, 5000))
    for position in range(start, min(start + size, len(data))):
        data[position] ^= chance.randrange(1, 256)
    path.write_bytes(data)
    print(f"seed {seed}: {size} bytes at {start} of {len(data)}")
    found, damaged = await _reopened(tmp_path)
    assert found == sorted(set(found))
    assert set(found) <= set(range(COUNT))
    if damaged:
        assert len(found) + damaged == COUNT


@pytest.mark.parametrize("seed", range(4))
async def test_f4_a_file_cut_anywhere_is_set_aside_and_its_start_kept(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    await _filled(tmp_path)
    path = tmp_path / "spool.db"
    data = path.read_bytes()
    keep = random.Random(seed).randrange(1, len(data))
    path.write_bytes(data[:keep])
    print(f"seed {seed}: {keep} of {len(data)} bytes")
    found, _ = await _reopened(tmp_path)
    assert found == sorted(set(found))
    assert len(found) < COUNT
    assert _aside(tmp_path)[0].stat().st_size >= keep
    assert "is damaged" in caplog.text
    assert f"saved {len(found)} messages" in caplog.text


@pytest.mark.parametrize("seed", range(6))
async def test_f4_a_damaged_log_keeps_everything_before_the_damage(tmp_path: Path, seed: int) -> None:
    """Copied while it is open, as a killed process leaves it: some is in the file, the rest in the log."""
    chance = random.Random(seed)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    async with spool(tmp_path) as opened:
        queue = opened.queue("q")
        for number in range(COUNT):
            await put(queue, [number], size=2000)
        for name in ("spool.db", "spool.db-wal"):
            (crashed / name).write_bytes((tmp_path / name).read_bytes())
    log = crashed / "spool.db-wal"
    data = bytearray(log.read_bytes())
    at = chance.randrange(32, len(data))
    print(f"seed {seed}: log damaged at {at} of {len(data)}")
    if seed % 2:
        data = data[:at]
    else:
        data[at] ^= 0xFF
    log.write_bytes(data)
    found, _ = await _reopened(crashed)
    assert found == list(range(len(found)))


@pytest.mark.parametrize("content", [b"garbage " * 10_000, random.Random(1).randbytes(50_000)])
async def test_f4_a_file_that_is_no_database_is_set_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool.db").write_bytes(content)
    assert await _reopened(tmp_path) == ([], 0)
    (aside,) = _aside(tmp_path)
    assert aside.read_bytes() == content
    assert str(aside) in caplog.text


async def test_f4_an_empty_file_is_a_new_spool(tmp_path: Path) -> None:
    (tmp_path / "spool.db").touch()
    assert await _reopened(tmp_path) == ([], 0)


async def test_f4_an_emptied_file_with_a_log_is_set_aside_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite alone would delete the log without a word."""
    (tmp_path / "spool.db").touch()
    (tmp_path / "spool.db-wal").write_bytes(b"x" * 5000)
    assert await _reopened(tmp_path) == ([], 0)
    assert [path.stat().st_size for path in _aside(tmp_path)] == [0, 5000]
    assert "is damaged" in caplog.text


async def test_f4_a_database_of_someone_else_is_set_aside_whole(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE theirs (x)")
    database.execute("INSERT INTO theirs VALUES (42)")
    database.commit()
    database.close()
    assert await _reopened(tmp_path) == ([], 0)
    database = sqlite3.connect(_aside(tmp_path)[0])
    assert database.execute("SELECT x FROM theirs").fetchall() == [(42,)]
    database.close()


@pytest.mark.parametrize("column", ["queue", "messages", "received", "written", "body"])
async def test_f4_values_of_the_wrong_kind_are_damage_too(tmp_path: Path, column: str) -> None:
    """SQLite itself does not mind them."""
    await _filled(tmp_path)
    database = sqlite3.connect(tmp_path / "spool.db")
    database.execute(
        f"UPDATE chunk SET {column} = CAST('no' AS {'TEXT' if column == 'body' else 'BLOB'}) WHERE seq = 7"
    )
    database.commit()
    database.close()
    found, damaged = await _reopened(tmp_path)
    assert found == [number for number in range(COUNT) if number != 6]
    assert damaged == 1


@pytest.mark.parametrize("offset", range(0, 100, 7))
def test_f4_no_byte_of_the_header_can_keep_the_gateway_from_starting(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "spool.db"
    file = SpoolFile(path)
    file.write([Row(1, "q", 1, 0.0, 0.0, 0, b"body")], [])
    file.close()
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)
    for _ in range(2):
        file = SpoolFile(path)
        file.write([Row(file.last_seq() + 1, "q", 1, 0.0, 0.0, 0, b"body")], [])
        file.close()


async def test_f4_a_folder_where_nothing_can_be_set_aside_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "spool.db").mkdir()
    with pytest.raises(SpoolError, match=r"spool\.db"):
        async with spool(tmp_path):
            pass
