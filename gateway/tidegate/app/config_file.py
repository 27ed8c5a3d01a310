"""Reading a configuration file: YAML, variables, and errors that name the line, the key and what would be right."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from tidegate.app.config import Config
from tidegate.core import ConfigError

_VARIABLE = re.compile(r"\$(\$)?\{([A-Za-z_][A-Za-z0-9_]*)(?::([-?])([^}]*))?\}")
_SECRETS = frozenset(("password", "token"))
_FILES = frozenset(("password_file", "token_file", "nkey_seed_file", "credentials_file", "ca", "cert", "key"))

Place = tuple[str | int, ...]
Problem = tuple[str, str]


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check a file. Relative paths in it are relative to it. Raises ConfigError with every fault found."""
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([("", f"can't be read: {error.strerror}")], str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError([("", "is not UTF-8 text")], str(path)) from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([(f"line {line}", f"not YAML: {error.problem}")], str(path)) from error
    if not isinstance(document, dict):
        raise ConfigError([("", "should be a mapping that starts with 'gateway: NAME'")], str(path))
    return _check(document, path, os.environ if environment is None else environment)


def _check(document: Any, path: Path, environment: Mapping[str, str]) -> Config:
    problems: list[Problem] = []
    values = _expand(document, (), path.parent, environment, problems, document)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        # The input is left out: it may be a secret.
        for fault in error.errors(include_input=False, include_url=False, include_context=False):
            problems.append((_key(fault["loc"], document), _sentence(fault["type"], fault["msg"], fault["loc"])))
        raise ConfigError(problems, str(path)) from None
    if problems:
        raise ConfigError(problems, str(path))
    return config


def _expand(
    value: Any, at: Place, base: Path, environment: Mapping[str, str], problems: list[Problem], document: Any
) -> Any:
    """Return plain values: variables replaced, file paths absolute and known to be readable."""
    if isinstance(value, dict):
        return {str(k): _expand(v, (*at, str(k)), base, environment, problems, document) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, (*at, i), base, environment, problems, document) for i, v in enumerate(value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if isinstance(value, int) else float(value)
    if not isinstance(value, str):
        return value
    name = str(at[-1])
    if name in _SECRETS and "${" not in value:
        problems.append((_key(at, document), f"a secret has no place in the file: use {name}_file, or ${{VARIABLE}}"))
        return "(withheld)"
    try:
        text = _VARIABLE.sub(lambda found: _variable(found, environment), value)
    except LookupError as error:
        problems.append((_key(at, document), str(error.args[0])))
        return value
    if name in _FILES or at == ("state_dir",):
        file = base / Path(text).expanduser()
        if name in _FILES and (problem := _unreadable(file)):
            problems.append((_key(at, document), problem))
        return file
    return text


def _variable(found: re.Match[str], environment: Mapping[str, str]) -> str:
    escaped, name, operator, text = found.groups()
    if escaped:
        return found[0][1:]
    if value := environment.get(name):
        return value
    if operator == "-":
        return str(text)
    if operator == "?":
        raise LookupError(f"the variable {name} is not set: {text}")
    if name in environment:
        return ""
    raise LookupError(f"the variable {name} is not set; set it, or give a default: ${{{name}:-...}}")


def _unreadable(file: Path) -> str | None:
    try:
        with file.open("rb"):
            return None
    except OSError as error:
        return f"the file {file} can't be read: {error.strerror}"


def _key(at: Place, document: Any) -> str:
    """Return a place in the file as people write it: `line 12, bridges[0].qos`."""
    text = ""
    line: int | None = None
    node = document
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        try:
            line = (node.lc.item(part) if isinstance(part, int) else node.lc.key(part))[0] + 1
            node = node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            node = None
    return f"line {line}, {text}" if line else text


def _sentence(kind: str, message: str, at: Place) -> str:
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(at)}"
    if kind == "missing":
        return "is required"
    return message.removeprefix("Value error, ").removeprefix("Input ")


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
