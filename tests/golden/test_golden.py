"""What real devices send becomes what these files say. Each folder is a configuration with its cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event

from tidegate.app.case_file import load_cases
from tidegate.app.cli import main
from tidegate.app.config import Bridge
from tidegate.app.config_file import load_config
from tidegate.app.running import new_converter
from tidegate.app.topic_map import bridges_for
from tidegate.bridge import SparkplugHost, decoder_names
from tidegate.core import Envelope, Message

HERE = Path(__file__).parent
FOLDERS = sorted(path.parent for path in HERE.glob("*/tidegate.yaml"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_messages_of_real_devices_become_the_events_that_are_written_here(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["test", "-c", str(folder / "tidegate.yaml"), str(folder / "cases.yaml")])
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_cloudevents_sdk_reads_every_event_that_they_become(folder: Path, mode: str) -> None:
    config = load_config(folder / "tidegate.yaml", {})
    bridges = [bridge.model_copy(update={"mode": mode}) for bridge in config.bridges]
    converters = {bridge.name: new_converter(config, bridge, _restore(bridge)) for bridge in bridges}
    read = 0
    for number, case in enumerate(load_cases(folder / "cases.yaml", config), 1):
        for bridge in bridges_for(config, case.topic):
            for event in converters[bridge.name].convert([case.message(number, 1 << 20)]).events:
                http = HTTPMessage(event.headers, event.body)
                found = from_structured_event(http) if mode == "structured" else from_binary_event(http)
                said = Envelope.from_nats(event.headers, event.body)
                assert (found.get_id(), found.get_source(), found.get_type()) == (said.id, said.source, said.type)
                assert (found.get_subject(), found.get_time()) == (case.topic, said.time)
                assert found.get_data() is not None
                read += 1
    assert read


def _restore(bridge: Bridge) -> Callable[[Message], Message] | None:
    return SparkplugHost(lambda _topic, _payload: True).restore if bridge.decoder_name == "sparkplug_b" else None


def test_every_decoder_has_golden_messages() -> None:
    used = {bridge.decoder_name for folder in FOLDERS for bridge in load_config(folder / "tidegate.yaml", {}).bridges}
    assert set(decoder_names()) <= used


def test_every_folder_says_where_its_format_is_documented() -> None:
    for folder in FOLDERS:
        first = (folder / "cases.yaml").read_text().partition("- name")[0]
        assert len(first) > 100, folder.name
        assert first.startswith("# "), folder.name
