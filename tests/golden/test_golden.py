"""What real devices send becomes what these files say. Each folder is a configuration with its cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.app.cli import main
from tidegate.app.config_file import load_config
from tidegate.bridge import decoder_names

HERE = Path(__file__).parent
FOLDERS = sorted(path.parent for path in HERE.glob("*/tidegate.yaml"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_messages_of_real_devices_become_the_events_that_are_written_here(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["test", "-c", str(folder / "tidegate.yaml"), str(folder / "cases.yaml")])
    assert status == 0, capsys.readouterr().out


def test_every_decoder_has_golden_messages() -> None:
    used = {bridge.decoder_name for folder in FOLDERS for bridge in load_config(folder / "tidegate.yaml", {}).bridges}
    assert set(decoder_names()) <= used


def test_every_folder_says_where_its_format_is_documented() -> None:
    for folder in FOLDERS:
        first = (folder / "cases.yaml").read_text().partition("- name")[0]
        assert len(first) > 100, folder.name
        assert first.startswith("# "), folder.name
