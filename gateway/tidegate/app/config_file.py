"""Reading a configuration file: YAML, variables, and errors that name the line, the key and what would be right."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tidegate.app.config import Config
from tidegate.app.document import Place, Problem, faults, place, read_document
from tidegate.core import ConfigError

_VARIABLE = re.compile(r"\$(\$)?\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::([-?])([^}]*))?\})?")
_SECRETS = frozenset(("password", "token"))
_FILES = frozenset(
    (
        *("password_file", "token_file", "headers_file", "nkey_seed_file", "credentials_file"),
        *("ca", "cert", "key", "schema", "descriptor"),
    )
)


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check a file. Relative paths in it are relative to it. Raises ConfigError with every fault found."""
    try:
        document = read_document(path)
        if not isinstance(document, dict):
            raise ConfigError([("", "should be a mapping that starts with 'gateway: NAME'")])
        return _check(document, path.parent, os.environ if environment is None else environment)
    except RecursionError:
        raise ConfigError([("", "is nested too deeply")], str(path)) from None
    except ConfigError as error:
        raise ConfigError(error.problems, str(path)) from None


def variables(path: Path, *at: str) -> list[str]:
    """Return the names of the variables in a value of a file, which `load_config` has replaced. Raises ConfigError."""
    value = read_document(path)
    for part in at:
        value = value.get(part) if isinstance(value, dict) else None
    found = _VARIABLE.findall(value) if isinstance(value, str) else []
    return [name for escaped, name, _, _ in found if name and not escaped]


def _check(document: Any, base: Path, environment: Mapping[str, str]) -> Config:
    problems: list[Problem] = []
    values = _expand(document, (), base, environment, problems, document)
    values.setdefault("state_dir", base / Config.model_fields["state_dir"].default)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += faults(error, Config, document, {key for key, _ in problems})
        raise ConfigError(problems) from None
    if problems:
        raise ConfigError(problems)
    return config


def _expand(
    value: Any, at: Place, base: Path, environment: Mapping[str, str], problems: list[Problem], document: Any
) -> Any:
    """Return plain values: variables replaced, file paths absolute and known to be readable."""
    if isinstance(value, dict):
        return {str(k): _expand(v, (*at, str(k)), base, environment, problems, document) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, (*at, i), base, environment, problems, document) for i, v in enumerate(value)]
    name = str(at[-1])
    if (name in _SECRETS or at == ("tracing", "headers")) and value is not None and not _is_variable(value):
        problems.append((place(at, document), f"a secret has no place in the file: use {name}_file, or ${{VARIABLE}}"))
        return "(withheld)"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if isinstance(value, int) else float(value)
    if not isinstance(value, str):
        return value
    try:
        text = _VARIABLE.sub(lambda found: _variable(found, environment), value)
    except LookupError as error:
        problems.append((place(at, document), str(error.args[0])))
        return value
    is_file = name in _FILES and "attributes" not in at
    if is_file or at == ("state_dir",):
        try:
            file = base / Path(text).expanduser()
        except RuntimeError:  # there is no such user
            file = base / text
        # What a variable holds is not quoted: somebody may have put the secret itself there.
        if is_file and (problem := _unreadable(file, str(file) if text == value else value)):
            problems.append((place(at, document), problem))
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
