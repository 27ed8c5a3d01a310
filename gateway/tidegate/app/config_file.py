"""Reading a configuration file: YAML, variables, and errors that name the line, the key and what would be right."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from tidegate.app.config import Config
from tidegate.core import ConfigError

_VARIABLE = re.compile(r"\$(\$)?\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::([-?])([^}]*))?\})?")
_SECRETS = frozenset(("password", "token"))
_FILES = frozenset(
    ("password_file", "token_file", "nkey_seed_file", "credentials_file", "ca", "cert", "key", "schema", "descriptor")
)

Place = tuple[str | int, ...]
Problem = tuple[str, str]


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check a file. Relative paths in it are relative to it. Raises ConfigError with every fault found."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([("", f"can't be read: {error.strerror}")], str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError([("", "is not UTF-8 text")], str(path)) from error
    try:
        document = _parse(text)
        if not isinstance(document, dict):
            raise ConfigError([("", "should be a mapping that starts with 'gateway: NAME'")])
        return _check(document, path.parent, os.environ if environment is None else environment)
    except RecursionError:
        raise ConfigError([("", "is nested too deeply")], str(path)) from None
    except ConfigError as error:
        raise ConfigError(error.problems, str(path)) from None


def _parse(text: str) -> Any:
    """Return the YAML document, with its line numbers. Raises ConfigError, which quotes no value."""
    try:
        return YAML(typ="rt").load(text)
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


def _check(document: Any, base: Path, environment: Mapping[str, str]) -> Config:
    problems: list[Problem] = []
    values = _expand(document, (), base, environment, problems, document)
    values.setdefault("state_dir", base / Config.model_fields["state_dir"].default)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += _faults(error, document, {key for key, _ in problems})
        raise ConfigError(problems) from None
    if problems:
        raise ConfigError(problems)
    return config


def _faults(error: ValidationError, document: Any, known: set[str]) -> Iterator[Problem]:
    """Give pydantic's faults as sentences, without those that only follow from another one."""
    # The input is left out: it may be a secret.
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    inside = {fault["loc"][:-depth] for fault in faults for depth in range(1, len(fault["loc"]))}
    for fault in faults:
        key = _key(fault["loc"], document)
        follows = fault["type"] == "too_short" and fault["loc"] in inside
        if key not in known and not follows:
            yield key, _sentence(fault["type"], fault["msg"], fault["loc"])


def _expand(
    value: Any, at: Place, base: Path, environment: Mapping[str, str], problems: list[Problem], document: Any
) -> Any:
    """Return plain values: variables replaced, file paths absolute and known to be readable."""
    if isinstance(value, dict):
        return {str(k): _expand(v, (*at, str(k)), base, environment, problems, document) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, (*at, i), base, environment, problems, document) for i, v in enumerate(value)]
    name = str(at[-1])
    if name in _SECRETS and value is not None and not _is_variable(value):
        problems.append((_key(at, document), f"a secret has no place in the file: use {name}_file, or ${{VARIABLE}}"))
        return "(withheld)"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if isinstance(value, int) else float(value)
    if not isinstance(value, str):
        return value
    try:
        text = _VARIABLE.sub(lambda found: _variable(found, environment), value)
    except LookupError as error:
        problems.append((_key(at, document), str(error.args[0])))
        return value
    is_file = name in _FILES and "attributes" not in at
    if is_file or at == ("state_dir",):
        try:
            file = base / Path(text).expanduser()
        except RuntimeError:  # there is no such user
            file = base / text
        # What a variable holds is not quoted: somebody may have put the secret itself there.
        if is_file and (problem := _unreadable(file, str(file) if text == value else value)):
            problems.append((_key(at, document), problem))
        return file
    return text


def _is_variable(value: object) -> bool:
    """Whether a value is one variable and nothing else."""
    found = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
    return found is not None and not found[1] and found[2] is not None


def _variable(found: re.Match[str], environment: Mapping[str, str]) -> str:
    escaped, name, operator, text = found.groups()
    if escaped:
        return found[0][1:]
    if name is None:
        raise LookupError("'${' begins a variable: ${NAME}, ${NAME:-default} or ${NAME:?message}; for itself write $${")
    if value := environment.get(name):
        return value
    if operator == "-":
        return str(text)
    if operator == "?":
        raise LookupError(f"the variable {name} is not set: {text}")
    if name in environment:
        return ""
    raise LookupError(f"the variable {name} is not set; set it, or give a default: ${{{name}:-...}}")


def _unreadable(file: Path, shown: str) -> str | None:
    try:
        with file.open("rb"):
            return None
    except OSError as error:
        return f"the file {shown} can't be read: {error.strerror}"
    except ValueError:
        return "should be the path of a file"


def _key(at: Place, document: Any) -> str:
    """Return a place in the file as people write it: `line 12, bridges[0].qos`."""
    text = ""
    line: int | None = None
    node = document
    for part in at:
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
    "tuple_type": "should be a list",
}


def _sentence(kind: str, message: str, at: Place) -> str:
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(at)}"
    return _SENTENCES.get(kind) or message.removeprefix("Value error, ").removeprefix("Input ")


def _suggestion(at: Place) -> str:
    model: Any = Config
    for part in at[:-1]:
        if isinstance(part, str):
            model = _section(model, part)
    known = list(getattr(model, "model_fields", {}))
    close = get_close_matches(str(at[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}" if known else ""


def _section(model: Any, field: str) -> Any:
    """Return the model behind a field: itself, or what a tuple or an optional holds."""
    annotation = model.model_fields[field].annotation if field in getattr(model, "model_fields", {}) else None
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if hasattr(candidate, "model_fields"):
            return candidate
    return None
