"""One browser for all tests of a module, and one tab for most of them: each costs a second to open."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser

from tests.support.browser import Tab, chromium, tab


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def screen(browser: Browser) -> AsyncIterator[Tab]:
    async with tab(browser) as opened:
        yield opened
