"""What `run` promises at its start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import gateway, write_config
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.cli import main
from tidegate.app.config import Config
from tidegate.app.guarantee import guarantee
from tidegate.nats import StreamSpec

STREAM = StreamSpec(name="SENSORS", subjects=("plant.>",), replicas=3)


def _config(bridge: dict[str, Any] | None = None, **more: Any) -> Config:
    some = {"name": "b", "mqtt": "a/{x}", "nats": "plant.{x}"} | (bridge or {})
    return Config.model_validate({"gateway": "g", "bridges": [some]} | more)


def _of(config: Config, stream: StreamSpec | None = STREAM) -> tuple[str, str]:
    promise, weaknesses = guarantee(config, config.bridges[0], stream)
    return promise, "\n".join(weaknesses)


def test_qos_1_into_a_replicated_stream_is_at_least_once_and_nothing_weakens_it() -> None:
    promise, weaknesses = _of(_config())
    assert promise.startswith("at least once into SENSORS")
    assert "120 s" in promise
    assert weaknesses == ""


def test_qos_2_is_exactly_once_and_qos_0_and_core_at_most_once() -> None:
    assert _of(_config({"qos": 2}))[0].startswith("exactly once")
    assert _of(_config({"qos": 0}))[0].startswith("at most once")
    assert _of(_config({"deliver": "core"}))[0].startswith("at most once")


@pytest.mark.parametrize(
    ("config", "stream", "named"),
    [
        (_config({"qos": 0}), STREAM, "qos 0"),
        (_config({"deliver": "core"}), STREAM, "deliver core"),
        (_config(mqtt={"session_expiry": "0s"}), STREAM, "session_expiry"),
        (_config(spool={"when_full": "drop_oldest"}), STREAM, "drop_oldest"),
        (_config(), None, "no stream stores plant.*"),
        (_config(), StreamSpec(name="S", subjects=("x",), replicas=3, storage="memory"), "in memory"),
        (_config(), StreamSpec(name="S", subjects=("x",), replicas=3, max_bytes=5), "oldest messages at 5 bytes"),
        (_config(), StreamSpec(name="S", subjects=("x",), replicas=3, max_age=60.0), "after 60 s"),
        (
            _config(),
            StreamSpec(name="S", subjects=("x",), replicas=3, max_msgs_per_subject=5),
            "last 5 of each subject",
        ),
        (_config(), StreamSpec(name="S", subjects=("x",), replicas=3, retention="interest"), "consumer"),
        (_config(), StreamSpec(name="S", subjects=("x",)), "one replica"),
        (_config({"last_value": "LAST"}), StreamSpec(name="S", subjects=("x",), retention="interest"), "LAST misses"),
    ],
)
def test_what_weakens_the_guarantee_is_named(config: Config, stream: StreamSpec | None, named: str) -> None:
    assert named in _of(config, stream)[1]


async def test_run_says_at_its_start_what_each_bridge_guarantees(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        async with gateway(config, http) as running:
            await eventually(lambda: "readings: weaker: SENSORS has one replica" in running.log_text())
            assert "readings: guarantee: at least once into SENSORS" in running.log_text()


@pytest.mark.parametrize(
    ("rate", "size", "said"),
    [("1", "100B", "168.0 hours"), ("5000", "1KiB", "bytes a second; then max_bytes is reached")],
)
def test_check_says_how_long_the_spool_lasts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: str, size: str, said: str
) -> None:
    path, _ = write_config(tmp_path, 1883, 4222)
    assert main(["check", str(path), "--rate", rate, "--size", size]) == 0
    assert said in capsys.readouterr().out
