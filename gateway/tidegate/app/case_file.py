"""Reading a file of cases (see `tidegate.app.case`), with errors as those of a configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tidegate.app.case import Case, Cases
from tidegate.app.config import Config
from tidegate.app.document import faults, plain, read_document
from tidegate.core import ConfigError


def load_cases(path: Path, config: Config) -> tuple[Case, ...]:
    """Read and check a file. Relative paths in it are relative to it. Raises ConfigError with every fault found."""
    try:
        document = read_document(path)
        values = plain(document)
    except RecursionError:
        raise ConfigError([("", "is nested too deeply")], str(path)) from None
    except ConfigError as error:
        raise ConfigError(error.problems, str(path)) from None
    context = {
        "base": path.parent,
        "bridges": [bridge.name for bridge in config.up_bridges],
        "protocol": config.mqtt.protocol,
    }
    try:
        if isinstance(values, list) and values:
            return _LIST.validate_python(values, context=context)
        if isinstance(values, dict):
            return Cases.model_validate(values, context=context).cases
    except ValidationError as error:
        model = Case if isinstance(values, list) else Cases
        raise ConfigError(list(faults(error, model, document, set())), str(path)) from None
    raise ConfigError([("", "should be a list of cases, or a mapping that starts with 'cases:'")], str(path))


_LIST = TypeAdapter(tuple[Case, ...])
