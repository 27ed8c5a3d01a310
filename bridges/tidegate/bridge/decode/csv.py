"""Comma-separated values (RFC 4180)."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tidegate.bridge.decode.decoder import Decoder
from tidegate.bridge.decode.json_value import Room, json_value

_ROW, _CELL = 64, 32
"""Bytes that a row takes, and each of its cells, or more."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?").fullmatch
_BOM = b"\xef\xbb\xbf"


def new(columns: list[str] | None = None, delimiter: str = ",") -> Decoder:
    """Return the decoder. Its value is a list of objects, one for each row; `each: "@"` makes an event of each.

    columns: their names; without it the first row has them. delimiter: the character between cells.

    The text is UTF-8. White space around a cell does not count. A cell that is a number as JSON writes it (RFC 8259 §6)
    is one, quoted or not, an empty one is null, and any other is text, as is a number that JSON's readers could not
    keep: an integer over 64 bits, or one out of range. Blank lines are skipped, but in a table of one column one of
    white space is an empty cell. Refused are a row with fewer or more cells than there are columns, columns without a
    name or with the same, and a cell of more than 131,072 characters. Raises ValueError for options that can't be.
    """
    if columns is not None:
        _check_columns(columns)
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise ValueError("delimiter should be one character that is no quote or end of line, as ';'")
    names = None if columns is None else tuple(columns)
    return Decoder(lambda payload, _topic: _rows(payload, names, delimiter))


def _check_columns(columns: Any) -> None:
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise ValueError("columns should be a list of names, as [time, value]; a name that is a number needs quotes")
    _check_names(columns)


def _check_names(names: Sequence[str]) -> None:
    if not names or not all(names):
        raise ValueError(f"column {names.index('') + 1} has no name" if names else "there are no columns")
    if len(set(names)) < len(names):
        repeated = Counter(names).most_common(1)[0][0]
        raise ValueError(f"two columns are called {repeated[:80]!r}")


def _rows(payload: bytes, names: Sequence[str] | None, delimiter: str) -> list[dict[str, Any]]:
    lines = io.StringIO(payload.removeprefix(_BOM).decode(), newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=delimiter != " ")
    rows: list[dict[str, Any]] = []
    room = Room()
    try:
        for cells in reader:
            if not cells or (len(cells) == 1 and not cells[0].strip() and (names is None or len(names) > 1)):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                _check_names(names)
                continue
            if len(cells) != len(names):
                raise ValueError(f"line {reader.line_num} has {len(cells)} cells, and there are {len(names)} columns")
            room.take(_ROW + sum(map(len, names)) + _CELL * len(names))
            rows.append(dict(zip(names, map(_cell, cells), strict=True)))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is not CSV: {error}") from None
    if names is None:
        raise ValueError("no row with the names of the columns")
    return rows


def _cell(text: str) -> Any:
    text = text.strip()
    if not text:
        return None
    found = _NUMBER(text)
    if not found:
        return text
    try:
        if found[1] or found[2]:
            number = float(text)
            return number if math.isfinite(number) else text
        return json_value(int(text))
    except ValueError:
        return text
