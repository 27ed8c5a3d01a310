"""Decoders that others bring: found by their name in the entry point group, and clear errors where one is wrong."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.app.helpers import faults, load
from tests.bridge.messages import convert_all, message
from tidegate.app.running import new_converter
from tidegate.bridge import Decoder, decoder_names, new_decoder

CONFIG = """\
gateway: g
bridges:
  - {{name: b, mqtt: "a/{{x}}", nats: "p.{{x}}", decode: {decode}}}
"""

MODULE = '''\
"""Modbus registers, as somebody's package reads them."""

from tidegate.bridge import Decoder


def new(scale: float = 1.0, *, names: list[str] | None = None) -> Decoder:
    if scale == 0:
        raise ValueError("scale should not be 0")
    if scale < 0:
        raise RuntimeError("broken\\nin two lines")

    def decode(payload: bytes, topic: str) -> object:
        if payload == b"crash":
            raise KeyError("register")
        if payload == b"odd":
            return {1, 2}
        if payload == b"nan":
            return {"register": float("nan")}
        return {"topic": topic, "registers": [byte * scale for byte in payload], "names": names}

    return Decoder(decode)


def no_decoder() -> object:
    return lambda payload: payload


number = 5
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return what installs a package with these entry points."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install_points(module: str = MODULE, **points: str) -> None:
        (site / "acme_modbus.py").write_text(module)
        info = site / "acme_modbus-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-modbus\nVersion: 1.0\n")
        lines = "".join(f"{name} = {target}\n" for name, target in points.items())
        (info / "entry_points.txt").write_text(f"[tidegate.decoders]\n{lines}")
        importlib.invalidate_caches()

    yield install_points
    sys.modules.pop("acme_modbus", None)


def test_a_decoder_of_a_package_is_found_by_its_name_and_used(install: Install, tmp_path: Path) -> None:
    install(acme_modbus="acme_modbus:new")
    config = load(tmp_path, CONFIG.format(decode="{acme_modbus: {scale: 0.5, names: [a, b]}}"))
    (event,) = new_converter(config, config.bridges[0]).convert([message("a/hall", b"\x02\x03")]).events
    assert json.loads(event.body)["data"] == {"topic": "a/hall", "registers": [1.0, 1.5], "names": ["a", "b"]}
    config = load(tmp_path, CONFIG.format(decode="acme_modbus"))
    (event,) = new_converter(config, config.bridges[0]).convert([message("a/hall", b"\x02")]).events
    assert json.loads(event.body)["data"]["registers"] == [2.0]


def test_a_name_with_a_hyphen_is_found_too(install: Install) -> None:
    install(**{"acme-modbus": "acme_modbus:new"})
    assert isinstance(new_decoder("acme-modbus"), Decoder)
    assert decoder_names()[-1] == "acme-modbus"


def test_the_names_of_packages_come_after_the_built_in_ones(install: Install) -> None:
    before = decoder_names()
    install(acme_modbus="acme_modbus:new", another="acme_modbus:new", json="acme_modbus:new")
    assert decoder_names() == [*before, "acme_modbus", "another"]


def test_a_package_can_not_take_the_name_of_a_built_in_decoder(install: Install) -> None:
    install(json="acme_modbus:new", raw="acme_modbus:no_decoder")
    assert new_decoder("json").decode(b"[1]", "a") == [1]


def test_what_a_decoder_raises_makes_a_dead_letter_and_the_bridge_goes_on(install: Install, tmp_path: Path) -> None:
    install(acme_modbus="acme_modbus:new")
    config = load(tmp_path, CONFIG.format(decode="acme_modbus"))
    payloads = (b"\x01", b"crash", b"odd", b"nan", b"\x02")
    some = new_converter(config, config.bridges[0])
    events, rejected = convert_all(some, *(message("a/hall", payload) for payload in payloads))
    assert [json.loads(event.body)["data"]["registers"] for event in events] == [[1.0], [2.0]]
    assert [one.message.payload for one in rejected] == [b"crash", b"odd", b"nan"]
    crash, odd, nan = (one.error for one in rejected)
    assert (crash.reason, crash.detail) == ("decode_failed", "KeyError: 'register'")
    assert odd.reason in ("decode_failed", "normalise_failed")
    assert "set" in odd.detail
    assert (nan.reason, nan.detail) == ("decode_failed", "nan is no number that JSON has")


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("acme_nowhere:new", "can't be loaded from acme_nowhere:new: ModuleNotFoundError"),
        ("acme_modbus:nowhere", "can't be loaded from acme_modbus:nowhere: AttributeError"),
        ("acme_modbus:number", "is none: 5 is not a callable object"),
        ("acme_modbus", "is not a callable object"),
        ("acme_modbus:no_decoder", "is none: its entry point returns function"),
        ("acme_modbus:Decoder", "missing a required argument"),
        ("builtins:dict", "is none: no signature found"),
        ("collections:UserDict", "is none: its entry point returns UserDict"),
    ],
)
def test_an_entry_point_that_is_no_decoder_is_a_fault_of_the_configuration(
    target: str, problem: str, install: Install, tmp_path: Path
) -> None:
    install(acme=target)
    (line,) = faults(tmp_path, CONFIG.format(decode="acme"))
    assert "bridges[0].decode: the decoder 'acme'" in line
    assert problem in line


@pytest.mark.parametrize(
    ("decode", "problem"),
    [
        ("{acme: {speed: 5}}", "got an unexpected keyword argument 'speed' (its options: scale, names)"),
        ("{acme: {scale: 0}}", "scale should not be 0"),
        ("{acme: {scale: -1}}", "the decoder 'acme' can't be made: RuntimeError('broken"),
        ("{acme: {scale: half}}", "the decoder 'acme' can't be made: TypeError("),
        ("acmee", "there is no decoder 'acmee'; there are json, text, "),
        ("{acme: {}, json: {}}", "a decoder's name"),
        ("{}", "a decoder's name"),
    ],
)
def test_options_that_are_refused_are_a_fault_of_the_configuration(
    decode: str, problem: str, install: Install, tmp_path: Path
) -> None:
    install(acme="acme_modbus:new")
    (line,) = faults(tmp_path, CONFIG.format(decode=decode))
    assert "bridges[0].decode: " in line
    assert problem in line


@pytest.mark.parametrize("module", ["raise RuntimeError('at import')", "import nowhere_at_all", "def new(:", "1 / 0"])
def test_a_module_that_can_not_be_imported_is_a_fault_of_the_configuration(
    module: str, install: Install, tmp_path: Path
) -> None:
    install(module, acme="acme_modbus:new")
    (line,) = faults(tmp_path, CONFIG.format(decode="acme"))
    assert "the decoder 'acme' can't be loaded from acme_modbus:new: " in line


def test_an_unknown_name_lists_those_that_there_are(install: Install) -> None:
    install(acme="acme_modbus:new")
    with pytest.raises(ValueError, match=r"there is no decoder 'jsn'; there are json, .*, acme"):
        new_decoder("jsn")


def test_a_missing_library_of_a_package_is_not_taken_for_one_of_ours(install: Install) -> None:
    install("import fastavro_of_somebody_else", acme="acme_modbus:new")
    with pytest.raises(ValueError, match="can't be loaded") as caught:
        new_decoder("acme")
    assert "pip install" not in str(caught.value)
