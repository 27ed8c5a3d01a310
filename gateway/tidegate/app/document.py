"""A YAML document that a person wrote: read with its line numbers, and its faults told by line and key, with what would
be right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scalarbool import ScalarBoolean

from tidegate.core import ConfigError

Place = tuple[str | int, ...]
Problem = tuple[str, str]


def read_document(path: Path) -> Any:
    """Return the YAML document in a file, with its line numbers. Raises ConfigError, which quotes no value."""
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([("", f"can't be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([("", "is not UTF-8 text")]) from error
    except RecursionError:
        raise ConfigError([("", "is nested too deeply")]) from None


class _Constructor(RoundTripConstructor):
    """Leaves a time as the text that it is: whoever wants a time reads it, and nobody gets one by accident."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", RoundTripConstructor.construct_yaml_str)


def _parse(text: str) -> Any:
    """Return the YAML document, with its line numbers. Raises ConfigError, which quotes no value."""
    try:
        yaml = YAML(typ="rt")
        yaml.Constructor = _Constructor
        return yaml.load(text)
    except DuplicateKeyError as error:
        # The library's own sentence quotes both values.
        key = re.search(r'duplicate key "([^"]*)"', str(error.problem))
        problem = f"the key {key[1]!r} is there twice" if key else "a key is there twice"
        raise ConfigError([(_line(error), problem)]) from None
    except MarkedYAMLError as error:
        problem = re.sub(r"'(?!\\.')[^'<]{2,}'", "a text", str(error.problem))  # it may quote the start of a value
        raise ConfigError([(_line(error), f"not YAML: {problem}")]) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"not YAML: the control character #x{ord(text[error.position]):02x}"
        raise ConfigError([(f"line {line}", problem)]) from None
    except (YAMLError, ValueError):
        raise ConfigError([("", "not YAML: a value can't be read, as a number of too many digits")]) from None


def _line(error: MarkedYAMLError) -> str:
    return f"line {error.problem_mark.line + 1 if error.problem_mark else 1}"


def plain(value: Any) -> Any:
    """Return a value of a document without its line numbers. Raises ConfigError for what JSON has no form of."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, bool | ScalarBoolean):
        return bool(value)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is not None:
        raise ConfigError([("", f"a YAML value of the kind {type(value).__name__} has no form in JSON")])
    return None


def yaml_lines(value: Any) -> list[str]:
    """Return a value that JSON can hold as lines of YAML, fit for a terminal."""
    text = _yaml(value, unicode=True)
    if not text.replace("\n", "").isprintable():
        text = _yaml(value, unicode=False)
    return text.rstrip("\n").split("\n")


def _yaml(value: Any, *, unicode: bool) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = unicode
    yaml.width = 1 << 30  # a long text stays one line, as a reader of differences wants it
    yaml.indent(sequence=4, offset=2)
    stream = StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


def faults(error: ValidationError, model: Any, document: Any, known: set[str]) -> Iterator[Problem]:
    """Give pydantic's faults with a model as sentences, without those that only follow from another one.

    known: the places of which a fault is told already.
    """
    # The input is left out: it may be a secret.
    found = error.errors(include_input=False, include_url=False, include_context=False)
    inside = {fault["loc"][:-depth] for fault in found for depth in range(1, len(fault["loc"]))}
    for fault in found:
        key = place(fault["loc"], document)
        follows = fault["type"] == "too_short" and fault["loc"] in inside
        if key not in known and not follows:
            yield key, _sentence(fault["type"], fault["msg"], fault["loc"], model)


def place(at: Place, document: Any) -> str:
    """Return a place in the file as people write it: `line 12, bridges[0].qos`."""
    text = ""
    line: int | None = None
    node = document
    for part in at:
        if _is_variant(part):
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        try:
            found = part if isinstance(part, int) else next(key for key in node if str(key) == part)
            line = (node.lc.item(found) if isinstance(part, int) else node.lc.key(found))[0] + 1
            node = node[found]
        except (AttributeError, LookupError, StopIteration, TypeError):
            node = None
    return f"line {line}, {text}" if line else text


_SENTENCES = {
    "missing": "is required",
    "too_short": "should have at least one entry",
    "model_type": "should be a mapping of keys to values",
    "dict_type": "should be a mapping of keys to values",
    "string_type": "should be text; in quotes where YAML takes it for something else",
    "tuple_type": "should be a list",
}


def _sentence(kind: str, message: str, at: Place, model: Any) -> str:
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(at, model)}"
    return _SENTENCES.get(kind) or message.removeprefix("Value error, ").removeprefix("Input ")


def _suggestion(at: Place, model: Any) -> str:
    variant, others = "", dict[str, Any]()
    for part in at[:-1]:
        if _is_variant(part):
            variant, others = str(part), model
            model = others.pop(variant, None)
        elif isinstance(part, str):
            model = _section(model, part)
    known = _keys(model)
    for tag, other in others.items():
        if at[-1] in _keys(other) and at[-1] not in known:
            return f" with {variant.strip('()')}; it is an option of {tag.strip('()')}"
    close = get_close_matches(str(at[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}" if known else ""


def _keys(model: Any) -> list[str]:
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]


def _is_variant(part: str | int) -> bool:
    """Whether a part of a place says which of several models was meant, which no file does."""
    return isinstance(part, str) and part.startswith("(")


def _section(model: Any, field: str) -> Any:
    """Return the model behind a field: itself, or what a tuple or an optional holds; or models by their tags."""
    annotation = model.model_fields[field].annotation if field in getattr(model, "model_fields", {}) else None
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if hasattr(candidate, "model_fields"):
            return candidate
        if hasattr(candidate, "__metadata__"):
            return {one.__metadata__[0].tag: one.__origin__ for one in get_args(get_args(candidate)[0])}
    return None
