"""The JSON Schema of configuration files: right, and of help to an editor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.app.helpers import load
from tests.app.test_config_samples import ROOT, WHOLE
from tidegate.app.config import Config
from tidegate.app.file_schema import file_schema
from tidegate.app.quantity import parse_duration, parse_size
from tidegate.bridge import decoder_names
from tidegate.core import written_duration, written_size

SCHEMA = file_schema()
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA, validate_formats=True)
SMALL = {"gateway": "g", "bridges": [{"name": "b", "mqtt": "a", "nats": "p.b"}]}


def read(text: str) -> Any:
    """Return a YAML document as an editor's validator sees it."""
    return YAML(typ="safe", pure=True).load(text)


def with_down_bridge(**options: object) -> dict[str, Any]:
    """Return a small configuration with a bridge from NATS to MQTT."""
    down = {"name": "d", "direction": "down", "nats": "p.{x}", "mqtt": "a/{x}"}
    return {**SMALL, "bridges": [{**down, **options}]}


def with_bridge(**options: object) -> dict[str, Any]:
    """Return a small configuration whose bridge has these options."""
    return {**SMALL, "bridges": [{**SMALL["bridges"][0], **options}]}  # type: ignore[dict-item]


def test_it_is_a_json_schema_of_the_draft_that_it_says() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert jsonschema_rs.meta.is_valid(SCHEMA)


@pytest.mark.parametrize("path", [*ROOT.glob("deploy/*.yaml"), *ROOT.glob("examples/*/tidegate.yaml")], ids=str)
def test_it_accepts_the_files_that_users_copy_from(path: Path) -> None:
    VALIDATOR.validate(read(path.read_text()))


@pytest.mark.parametrize(
    "document",
    [
        SMALL,
        read(WHOLE),
        {**SMALL, "mqtt": {"keep_alive": "${KEEP_ALIVE:-1m}", "max_payload": "${SIZE}"}},
        {**SMALL, "streams": [{"name": "S", "subjects": ["p.>"], "max_age": " 1.5 h ", "max_bytes": "64 MiB"}]},
        {**SMALL, "http": None, "dead_letters": {"max_age": None}},
        with_bridge(direction="up"),
        with_down_bridge(),
        with_down_bridge(qos=2, retain=True, deliver="core", payload="event"),
        with_bridge(decode={"csv": {"delimiter": ";"}}),
        with_bridge(decode={"csv": None}),
        with_bridge(decode="somebody_s_own", time_unit="ms", time_zone="Europe/Berlin", decompress="gzip"),
        with_bridge(
            attributes={"site": "{site}"}, each="a", filter="b", select="c", schema="d.json", cloudevents="wrap"
        ),
    ],
)
def test_it_accepts_what_the_gateway_takes(document: dict[str, Any]) -> None:
    VALIDATOR.validate(document)


@pytest.mark.parametrize(
    "document",
    [
        {**SMALL, "shutdown_timeout": 10},
        {**SMALL, "shutdown_timeout": "10min"},
        {**SMALL, "mqtt": {"max_payload": "1 Mb"}},
        with_bridge(direction="sideways"),
        with_bridge(retain=True),
        with_down_bridge(decode="json"),
        with_down_bridge(payload="all"),
        with_bridge(decode={"csv": {}, "json": {}}),
        with_bridge(decode={}),
        with_bridge(decode=["csv"]),
        with_bridge(time_unit="h"),
        with_bridge(cloudevents="no"),
        with_bridge(attributes={"site": 1}),
        with_bridge(schema_file="x"),
    ],
)
def test_it_refuses_what_the_gateway_refuses(document: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(document)


def properties() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every key with its schema."""
    for section, schema in {"": SCHEMA, **SCHEMA["$defs"]}.items():
        for name, one in schema["properties"].items():
            yield f"{section}.{name}", one


def test_every_key_is_described() -> None:
    sections = {f"#/$defs/{name}" for name, schema in SCHEMA["$defs"].items() if schema["description"]}
    undescribed = [at for at, one in properties() if not one.get("description") and one.get("$ref") not in sections]
    assert undescribed == []


def test_a_default_is_shown_as_a_file_has_it() -> None:
    defaults = {at: one["default"] for at, one in properties() if "default" in one}
    assert defaults["Mqtt.keep_alive"] == "30s"
    assert defaults["Mqtt.max_payload"] == "1MiB"
    assert defaults["DeadLetters.max_age"] == "90d"
    assert defaults[".shutdown_timeout"] == "10s"
    for at, one in properties():
        if "default" in one:
            validator = jsonschema_rs.Draft202012Validator({**one, "$defs": SCHEMA["$defs"]})
            assert validator.is_valid(one["default"]), at


def test_a_file_with_every_default_written_out_is_as_one_with_none(tmp_path: Path) -> None:
    def written(schema: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for name, one in schema["properties"].items():
            reference = one.get("$ref") or next((some["$ref"] for some in one.get("anyOf", ()) if "$ref" in some), None)
            if "default" in one:
                found[name] = one["default"]
            elif reference is not None:
                found[name] = written(SCHEMA["$defs"][reference.removeprefix("#/$defs/")])
        return found

    whole = {**written(SCHEMA), **SMALL, "bridges": [{**written(SCHEMA["$defs"]["Bridge"]), **SMALL["bridges"][0]}]}  # type: ignore[dict-item]
    assert len(str(whole)) > 1000

    def loaded(document: object) -> Config:
        path = tmp_path / "some.yaml"
        with path.open("w") as file:
            YAML(typ="safe", pure=True).dump(document, file)
        return load(tmp_path, path.read_text())

    assert loaded(whole) == loaded(SMALL)


def test_an_editor_offers_the_decoders_that_there_are() -> None:
    choices = SCHEMA["$defs"]["Bridge"]["properties"]["decode"]["anyOf"]
    assert choices[0] == {"enum": decoder_names()}


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**12))
def test_a_quantity_that_is_written_reads_as_it_was(amount: int) -> None:
    assert parse_size(written_size(amount)) == amount
    assert parse_duration(written_duration(amount / 1000)) == pytest.approx(amount / 1000, rel=1e-12)


def test_a_quantity_is_written_in_its_largest_unit() -> None:
    assert [written_duration(seconds) for seconds in (0.25, 90, 120, 86_400, 604_800)] == [
        "250ms",
        "90s",
        "2m",
        "1d",
        "7d",
    ]
    assert [written_size(size) for size in (1, 1500, 1024, 3 << 20)] == ["1B", "1500B", "1KiB", "3MiB"]
