"""The status page: one file without outside resources, and the policy it is served with."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from tidegate.app.http import Response

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


def status_page() -> Response:
    """Return the page, to be served at `/` beside the `/status.json` that it reads.

    Its Content-Security-Policy (CSP Level 3) knows the page's own script and style by their hashes, and lets nothing
    else run or load but what comes from the gateway: a device's text that got into it as markup would do nothing.
    """
    body = (files(__name__) / "index.html").read_bytes()
    hashes: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, text in _INLINE.findall(body):
        hashes[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'")
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(hashes[b"script"]),
        "style-src": " ".join(hashes[b"style"]),
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    headers = (
        ("Content-Security-Policy", "; ".join(f"{name} {value}" for name, value in policy.items())),
        ("Referrer-Policy", "no-referrer"),
    )
    return Response(200, "text/html; charset=utf-8", body, headers)
