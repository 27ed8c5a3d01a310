"""The status page as a file: nothing in it comes from elsewhere, and its policy lets it run and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from tidegate.app.page import status_page

PAGE = status_page()
TEXT = PAGE.body.decode()
POLICY = dict(PAGE.headers)["Content-Security-Policy"]


@pytest.mark.parametrize("kind", ["script", "style"])
def test_every_inline_block_is_in_the_policy_by_its_hash(kind: str) -> None:
    blocks = re.findall(rf"<{kind}\b[^>]*>(.*?)</{kind}>", TEXT, re.DOTALL)
    assert blocks
    digests = [base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks]
    assert f"{kind}-src " + " ".join(f"'sha256-{digest}'" for digest in digests) in POLICY


def test_the_policy_allows_nothing_but_the_pages_own() -> None:
    assert POLICY.startswith("default-src 'none'; ")
    assert "unsafe" not in POLICY
    for name in ("base-uri", "form-action", "frame-ancestors"):
        assert f"{name} 'none'" in POLICY
    assert "connect-src 'self'" in POLICY
    assert dict(PAGE.headers)["Referrer-Policy"] == "no-referrer"


def test_nothing_comes_from_elsewhere() -> None:
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w", TEXT)
    assert not re.findall(r"\b(?:src|srcset|action|background)=", TEXT)
    assert not re.findall(r"@import|url\(", TEXT)


def test_no_attribute_holds_style_or_script() -> None:
    assert not re.findall(r"<[^>]*\s(?:style|on\w+)=", TEXT)


def test_no_text_becomes_markup() -> None:
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|Function\(", TEXT)


def test_it_is_small() -> None:
    assert len(PAGE.body) < 50_000
