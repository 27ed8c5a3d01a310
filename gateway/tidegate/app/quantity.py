"""Durations and sizes as people write them: `5s`, `1d`, `64MiB`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_LONGEST = 36_500 * _SECONDS["d"]  # servers count in nanoseconds, in 64 bits
_LARGEST = 1_000_000 * _BYTES["GiB"]
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")


def parse_duration(value: object) -> float:
    """Return seconds. Raises ValueError."""
    seconds = _parse(value, _SECONDS, "a duration with its unit, as '500ms', '5s', '10m', '2h' or '7d'")
    if seconds > _LONGEST:
        raise ValueError("should be at most 36500d")
    return seconds


def parse_size(value: object) -> int:
    """Return bytes. Raises ValueError."""
    size = _parse(value, _BYTES, "a size with its unit, as '64KiB', '10MiB' or '1GiB'")
    if size > _LARGEST:
        raise ValueError("should be at most 1000000GiB")
    return round(size)


def _parse(value: object, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] not in units:
        raise ValueError(f"should be {wanted}")
    return float(found[1]) * units[found[2]]


def _in_editors(units: dict[str, float] | dict[str, int], *examples: str) -> Any:
    """Return what an editor should know of a quantity, which can be a ${VARIABLE} too."""
    pattern = rf"^\s*[0-9]+(\.[0-9]+)?\s*({'|'.join(units)})\s*$|\$\{{"
    return Field(examples=list(examples), json_schema_extra={"pattern": pattern})


Duration = Annotated[
    float, BeforeValidator(parse_duration, json_schema_input_type=str), _in_editors(_SECONDS, "5s", "1d")
]
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=str), _in_editors(_BYTES, "64MiB", "1GiB")]
