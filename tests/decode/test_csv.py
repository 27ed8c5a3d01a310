"""CSV (RFC 4180): rows become objects, and what is no table is refused with the line."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.messages import message
from tests.decode.rig import REFUSED, check_cheap, converter_of, data_of, outcome, refusal
from tidegate.bridge import Converter, Expression, Shape, Steps, new_decoder
from tidegate.core import Mapping

SOME = converter_of("csv")
THREE = converter_of("csv", columns=["time", "value", "unit"])
GOOD = b"a,b\n1,2\n"

_TABLES: dict[str, tuple[bytes, Any]] = {
    "a header and a row": (b"time,value,unit\r\n17,21.5,C\r\n", [{"time": 17, "value": 21.5, "unit": "C"}]),
    "no end of the last line": (b"a,b\n1,2", [{"a": 1, "b": 2}]),
    "several rows": (b"a,b\n1,2\n3,4\n", [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
    "a header alone": (b"a,b\n", []),
    "one column": (b"a\n1\n2\n", [{"a": 1}, {"a": 2}]),
    "ends of lines as they come": (b"a,b\r1,2\r\n3,4\n\r\n", [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
    "a byte order mark": (b"\xef\xbb\xbfa,b\n1,2\n", [{"a": 1, "b": 2}]),
    "a byte order mark inside": (b'a,b\n1,"\xef\xbb\xbf2"\n', [{"a": 1, "b": "\ufeff2"}]),
    "blank lines": (b"\n\r\n  \na,b\n\n1,2\n\t\n\n", [{"a": 1, "b": 2}]),
    "empty cells": (b"a,b,c\n,,\n1,,\n", [{"a": None, "b": None, "c": None}, {"a": 1, "b": None, "c": None}]),
    "an empty cell in one column": (b'a\n""\n1\n \n\n', [{"a": None}, {"a": 1}, {"a": None}]),
    "white space around cells": (b' a ,\tb\n 1 , x y \n', [{"a": 1, "b": "x y"}]),
    "quotes": (b'a,"b, c"\n"1","x ""y"", z"\n', [{"a": 1, "b, c": 'x "y", z'}]),
    "quotes after white space": (b'a,b\n1, "x, y"\n', [{"a": 1, "b": "x, y"}]),
    "lines in a cell": (b'a,b\n"x\r\ny",1\n', [{"a": "x\r\ny", "b": 1}]),
    "umlauts": ("größe,b\nä,水\n".encode(), [{"größe": "ä", "b": "水"}]),
    "a NUL": (b"a,b\nx\x00y,1\n", [{"a": "x\x00y", "b": 1}]),
}  # fmt: skip

_CELLS: dict[str, Any] = {
    "0": 0, "-0": 0, "-1": -1, "12": 12, "18446744073709551615": 2**64 - 1, "-9223372036854775808": -(2**63),
    "0.0": 0.0, "21.50": 21.5, "-1.5e-3": -0.0015, "1e3": 1000.0, "2E+2": 200.0,
    "18446744073709551616": "18446744073709551616", "-9223372036854775809": "-9223372036854775809",
    "1e400": "1e400", "-1e400": "-1e400", "9" * 5000: "9" * 5000,
    "007": "007", "+1": "+1", ".5": ".5", "1.": "1.", "1_000": "1_000", "0x1F": "0x1F", "1 2": "1 2", "--1": "--1",
    "NaN": "NaN", "nan": "nan", "Infinity": "Infinity", "inf": "inf", "\u0661": "\u0661", "½": "½", "1e": "1e",
    "true": "true", "null": "null", "2024-05-01": "2024-05-01", "21,5": "21,5", "[1]": "[1]",
}  # fmt: skip


@pytest.mark.parametrize(("payload", "rows"), _TABLES.values(), ids=_TABLES)
def test_rows_become_objects(payload: bytes, rows: Any) -> None:
    assert data_of(SOME, payload) == rows


@pytest.mark.parametrize(("cell", "value"), _CELLS.items(), ids=[cell[:20] for cell in _CELLS])
def test_a_cell_is_a_number_if_json_has_it_and_else_the_device_s_text(cell: str, value: Any) -> None:
    for written in (cell, f" {cell}\t"):
        (row,) = data_of(converter_of("csv", columns=["a", "b"], delimiter=";"), f"{written};x".encode())
        assert row == {"a": value, "b": "x"}
        assert type(row["a"]) is type(value)


def test_columns_name_the_cells_and_then_every_row_is_data() -> None:
    assert data_of(THREE, b"1700000000,21.5,C\n1700000001,22,C\n") == [
        {"time": 1700000000, "value": 21.5, "unit": "C"},
        {"time": 1700000001, "value": 22, "unit": "C"},
    ]
    assert data_of(THREE, b"\n") == []
    assert data_of(THREE, b"time,value,unit\n") == [{"time": "time", "value": "value", "unit": "unit"}]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", " ", "§", "水", "'"])
def test_any_character_can_stand_between_cells(delimiter: str) -> None:
    some = converter_of("csv", delimiter=delimiter)
    assert data_of(some, f"a{delimiter}b\n1{delimiter}x,y\n".encode()) == [{"a": 1, "b": "x,y"}]


_NO_TABLES = {
    "a row with a missing cell": (b"a,b,c\n1,2,3\n4,5\n6,7,8\n", "line 3 has 2 cells, and there are 3 columns"),
    "a row with a cell too many": (b"a,b\n1,2\n\n\n3,4,\n", "line 5 has 3 cells, and there are 2 columns"),
    "a row of one quote too few": (b'a,b\n1,"2\n3,4\n', "line 3 is not CSV"),
    "text after a quote": (b'a,b\n1,"2"x\n', "line 2 is not CSV"),
    "a column twice": (b"a,b,a\n1,2,3\n", "two columns are called 'a'"),
    "a column twice, by white space": (b"a,b, a\n1,2,3\n", "two columns are called 'a'"),
    "a column without a name": (b"a,,c\n1,2,3\n", "column 2 has no name"),
    "nothing": (b"\n \n", "no row"),
    "no more than a byte order mark": (b"\xef\xbb\xbf", "no row"),
    "another encoding": ("größe\n1\n".encode("latin-1"), "codec"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "codec"),
    "a cell of 200 kB": (b"a,b\n1," + b"x" * 200_000, "line 2 is not CSV"),
}


@pytest.mark.parametrize(("payload", "problem"), _NO_TABLES.values(), ids=_NO_TABLES)
def test_what_is_no_table_is_refused_and_the_line_is_said(payload: bytes, problem: str) -> None:
    assert problem in refusal(SOME, payload, GOOD)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"columns": []}, "no columns"),
        ({"columns": ["a", ""]}, "column 2 has no name"),
        ({"columns": ["a", "b", "a"]}, "two columns are called 'a'"),
        ({"columns": "a,b"}, "columns should be a list"),
        ({"columns": {"a": 1}}, "columns should be a list"),
        ({"columns": [1, 2]}, "columns should be a list"),
        ({"columns": ["a", None]}, "columns should be a list"),
        ({"delimiter": ""}, "delimiter"),
        ({"delimiter": ";;"}, "delimiter"),
        ({"delimiter": '"'}, "delimiter"),
        ({"delimiter": "\n"}, "delimiter"),
        ({"delimiter": "\r"}, "delimiter"),
        ({"delimiter": "\0"}, "delimiter"),
        ({"delimiter": 1}, "delimiter"),
        ({"delimiter": None}, "delimiter"),
        ({"separator": ";"}, "its options: columns, delimiter"),
    ],
)
def test_options_that_can_not_be_are_refused_with_a_sentence(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        new_decoder("csv", options)


def test_each_makes_an_event_of_each_row() -> None:
    shape = Shape(bridge="b", mapping=Mapping("{all...}", "plant.{all...}"), source="urn:x", type="t")
    some = Converter(shape, new_decoder("csv"), Steps(each=Expression("@"), select=Expression("{v: value}")))
    events = some.convert([message(payload=b"value,unit\n1,C\n2,C\n")]).events
    assert [json.loads(event.body)["data"] for event in events] == [{"v": 1}, {"v": 2}]


_HOSTILE = {
    "a long name and many rows": b"a" * 100_000 + b"\n" + b"1\n" * 450_000,
    "many long names": b",".join(b"%d" % n + b"x" * 90 for n in range(1000)) + b"\n" + (b"," * 999 + b"\n") * 900,
    "quotes": b'"' * 1_000_001,
    "rows of one character": b"a\n" + b"1\n" * 500_000,
    "ends of lines": b"\n" * 1_000_000,
    "many names": b",".join(b"%d" % n for n in range(20_000)) + b"\n",
    "the same name": b"a," * 20_000 + b"\n",
    "digits": b"a,b\n1," + b"9" * 131_000,
    "digits of a fraction": b"a,b\n1,0." + b"9" * 131_000 + b"e" + b"9" * 20,
    "white space": b"a,b\n1," + b" " * 131_000 + b"x",
}


@pytest.mark.parametrize("payload", _HOSTILE.values(), ids=_HOSTILE)
def test_no_payload_fills_the_time_or_the_memory(payload: bytes) -> None:
    check_cheap(lambda: outcome(SOME, payload), mib=None)


def test_a_name_is_not_repeated_without_end() -> None:
    payload = _HOSTILE["a long name and many rows"]
    check_cheap(lambda: refusal(SOME, payload, GOOD), mib=16)
    assert "too large" in refusal(SOME, payload, GOOD)
    assert len(data_of(SOME, b"a" * 1000 + b"\n" + b"1\n" * 10_000)) == 10_000


_cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12).filter(
    lambda text: text == text.strip()
)
_name = _cell.filter(bool)


@settings(deadline=None, max_examples=100)
@given(st.data(), st.lists(_name, min_size=2, max_size=5, unique=True), st.sampled_from([",", ";", "\t", "|"]))
def test_what_a_library_writes_is_read_as_it_was(data: st.DataObject, names: list[str], delimiter: str) -> None:
    rows = data.draw(st.lists(st.lists(_cell, min_size=len(names), max_size=len(names)), max_size=5))
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([names, *rows])
    found = data_of(converter_of("csv", delimiter=delimiter), out.getvalue().encode())
    assert [list(row) for row in found] == [names] * len(rows)
    for row, cells in zip(found, rows, strict=True):
        for value, cell in zip(row.values(), cells, strict=True):
            if isinstance(value, int | float):
                assert value == json.loads(cell)
            else:
                assert (value or "") == cell


@settings(deadline=None, max_examples=100)
@given(st.binary(min_size=1, max_size=60) | st.text('ab1,;"\n\r \t', min_size=1).map(str.encode))
def test_any_bytes_are_refused_or_become_rows_of_the_same_columns(payload: bytes) -> None:
    found = outcome(SOME, payload)
    if found != REFUSED:
        assert len({tuple(row) for row in found}) <= 1
