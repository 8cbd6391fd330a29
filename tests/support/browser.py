"""The system's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Request, ViewportSize, async_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 360, "height": 740}
PATIENCE = 20_000.0
"""Milliseconds to wait for something on a page."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser; skips the test where there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"there is no {PROGRAMS[0]} here, such as Debian's package of that name")
    async with async_playwright() as playwright:
        # Chromium refuses to run as root with its sandbox, and containers have little shared memory.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(
            executable_path=program, args=[*sandbox, "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            await browser.close()


class Visit:
    """A page that is open, and what went wrong on it.

    Attributes:
        page: of the browser.
        complaints: errors of scripts, what the console says, and requests that went elsewhere.
    """

    def __init__(self, page: Page, origin: str) -> None:
        self.page, self.origin, self.complaints = page, origin, list[str]()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("request", self._on_request)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.complaints.append(f"a request to {request.url}")

    async def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        width: int = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return width

    async def screenshot(self, name: str) -> None:
        """Keep what the page looks like in ``build/screenshots``, in full height."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, animations="disabled")


@asynccontextmanager
async def visit(browser: Browser, url: str, **options: Any) -> AsyncIterator[Visit]:
    """Open a page; nothing may go wrong on it until it is closed.

    Args:
        browser: see :func:`chromium`.
        url: with the token.
        options: of Playwright's ``new_context``.
    """
    context = await browser.new_context(**{"viewport": DESKTOP, **options})
    try:
        visited = Visit(await context.new_page(), "/".join(url.split("/")[:3]))
        await visited.page.goto(url)
        yield visited
        assert visited.complaints == []
    finally:
        await context.close()
