"""The `tracing` section of the configuration."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from tidegate.app.config_section import Section

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([!-~](?:[ -~]*[!-~])?)[ \t]*").fullmatch
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common")


def parse_headers(text: str) -> dict[str, str]:
    """Return HTTP headers from lines as `Authorization: Bearer x` (RFC 9110 §5). Raises ValueError, which quotes
    nothing of a line: it may be a secret."""
    headers = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        found = _HEADER(line)
        if found is None:
            raise ValueError(f"line {number} is no header; should be as 'Authorization: Bearer x', in ASCII")
        headers[found[1]] = found[2]
    return headers


def _check_endpoint(url: str) -> str:
    form = "should be http://host:port or https://host:port"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(form) from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("a user or password has no place in a URL; use headers_file")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(form)
    if not (url.isascii() and url.isprintable()) or " " in url or parts.query or parts.fragment:
        raise ValueError(f"{form}, and at most a path after it")
    return url.rstrip("/")


class Tracing(Section):
    """Spans of some of the messages, for a collector of OpenTelemetry's; needs the extra `otel`."""

    endpoint: Annotated[str, AfterValidator(_check_endpoint)] = Field(
        "http://127.0.0.1:4318", description="Where OTLP over HTTP is spoken; /v1/traces is put after it."
    )
    sample: float = Field(
        0.01,
        ge=0,
        le=1,
        description="The share of the messages that get spans, where their sender says nothing of it in a traceparent.",
    )
    headers_file: Path | None = Field(
        None, description="A file of headers for the collector, each in a line, as `Authorization: Bearer x`."
    )
    headers: SecretStr | None = Field(None, description="The same, only as ${VARIABLE}.")
    ca: Path | None = Field(None, description="The authorities for https://; by default the system's.")

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: SecretStr | None) -> SecretStr | None:
        if headers is not None:
            parse_headers(headers.get_secret_value())
        return headers

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.headers is not None and self.headers_file is not None:
            raise ValueError("headers and headers_file exclude each other")
        if not all(_is_installed(name) for name in _NEEDED):
            raise ValueError("tracing needs the extra 'otel': pip install 'tidegate[otel]'")
        return self


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
