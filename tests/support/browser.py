"""A real browser, headless, and what a person at it would see or its console would say."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt install chromium)")


class Tab:
    """An open page. complaints: errors of its console, its scripts and its policy. requests: every URL it asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    async def open(
        self,
        port: int,
        size: tuple[int, int] = (1280, 800),
        scheme: Literal["light", "dark"] = "light",
        motion: Literal["reduce", "no-preference"] = "reduce",
    ) -> None:
        """Open the page at `/` of a loopback port; nothing is known of what was open before."""
        await self.page.goto("about:blank")
        await self.page.set_viewport_size({"width": size[0], "height": size[1]})
        await self.page.emulate_media(color_scheme=scheme, reduced_motion=motion)
        self.complaints.clear()
        self.requests.clear()
        await self.page.goto(f"http://127.0.0.1:{port}/")

    async def text(self, selector: str) -> str:
        """Return what is shown there; empty where nothing is."""
        found = self.page.locator(selector)
        return (await found.first.inner_text()).strip() if await found.count() else ""

    async def kind(self, selector: str) -> str:
        """Return the state that colour and shape say there: ok, busy, warn, bad or off."""
        script = "(node) => [node.className, node.querySelector('use').getAttribute('href')]"  # both of one moment
        classes, shape = await self.page.locator(selector).first.evaluate(script)
        kinds = set(classes.split()) & {"ok", "busy", "warn", "bad", "off"}
        assert {f"#i-{kind}" for kind in kinds} == {shape}, "the shape says what the colour says"
        return str(kinds.pop())

    async def sideways(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        width: int = await self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return width

    async def keep(self, name: str, folder: Path) -> None:
        """Write a picture of all of it to the folder that $TIDEGATE_ARTEFACTS names, else to this one."""
        folder = Path(os.environ.get("TIDEGATE_ARTEFACTS") or folder)
        folder.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=folder / f"{name}.png", full_page=True)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run Chromium. Without its sandbox, which needs what a container does not give; it sees the tests' pages alone."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    """Open an empty tab, in a profile of its own."""
    context = await browser.new_context()
    try:
        yield Tab(await context.new_page())
    finally:
        await context.close()
