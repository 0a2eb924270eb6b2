"""A real browser before a real server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, sync_playwright

from llmspell_memory import EpisodicEntry
from llmspell_memory.server import ServerConfig
from tests.interfaces.server.conftest import manager_at
from tests.serving import served

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from llmspell_memory import DefaultMemoryManager

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LIMITS = ServerConfig(port=0, rate=None)

TEXTS = [
    ("monday", "user", "My dog is called Ada and she eats socks."),
    ("monday", "assistant", "A fine name. How old is Ada?"),
    ("monday", "user", "She is nine years old."),
    ("tuesday", "user", "The bakery opens at seven in the morning."),
    ("tuesday", "assistant", "Then I will wake you at six."),
    ("wednesday", "user", "Remember that the train to Lisbon leaves at noon."),
]


Lent = Callable[[], AbstractContextManager[Browser]]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Lent]:
    """Chromium, as the machine has it, started once and lent to one test after the other.

    Playwright's event loop runs in this thread for as long as the browser does, and asyncio allows one at a time. So it
    counts as running only while a test of the page does, and other tests that this process comes to may run theirs.
    """
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(
            "the tests of the page need Chromium, which is not here; install it: `apt-get install chromium` on Debian "
            f"or Ubuntu, or any that is found on PATH as {', '.join(_NAMES)}"
        )
    with sync_playwright() as playwright:
        loop = asyncio.get_running_loop()
        browser = playwright.chromium.launch(
            executable_path=path, args=["--disable-background-networking", "--disable-component-update"]
        )

        @contextmanager
        def lent() -> Iterator[Browser]:
            asyncio.events._set_running_loop(loop)
            try:
                yield browser
            finally:
                asyncio.events._set_running_loop(None)

        asyncio.events._set_running_loop(None)
        yield lent
        with lent():
            browser.close()
        asyncio.events._set_running_loop(loop)


@pytest.fixture
def browser(chromium: Lent) -> Iterator[Browser]:
    """Chromium, for this test."""
    with chromium() as browser:
        yield browser


@dataclass
class Watched:
    """A page that is watched: whom it asks, and of what it complains."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def open(self, view: str = "#/search") -> Page:
        """Show a view from the beginning."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{view}")
        self.page.locator("main h1").wait_for()
        return self.page


class Opening(Protocol):
    """Opens a page on a server; `expected` is what the browser may complain of, `options` are a context's."""

    def __call__(self, url: str, *, expected: str = "", **options: Any) -> Watched: ...


@pytest.fixture
def opening(browser: Browser) -> Iterator[Opening]:
    """Return what opens a watched page; at the end, none of them may have complained or asked another host."""
    opened: list[Watched] = []

    def make(url: str, *, expected: str = "", **options: Any) -> Watched:
        context = browser.new_context(**{"reduced_motion": "reduce", **options})
        context.set_default_timeout(10_000)
        one = Watched(context.new_page(), url)

        def complained(text: str) -> None:
            if not expected or expected not in text:
                one.complaints.append(text)

        one.page.on("console", lambda message: complained(message.text) if message.type != "log" else None)
        one.page.on("pageerror", lambda error: complained(str(error)))
        one.page.on("request", lambda request: one.hosts.add(urlsplit(request.url).netloc))
        opened.append(one)
        return one

    yield make
    for one in opened:
        one.page.context.close()
        assert one.complaints == []
        assert one.hosts <= {urlsplit(one.url).netloc}


@contextmanager
def page_server(manager: DefaultMemoryManager) -> Iterator[str]:
    """Serve a memory, and give its address."""
    with served(manager, LIMITS) as server:
        yield server.url


@dataclass
class Shown:
    """A memory without keys that is served."""

    url: str
    manager: DefaultMemoryManager


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    manager = manager_at(tmp_path / "memory.db")
    manager.episodic.add_many(
        [EpisodicEntry(session, role, text, metadata={"n": n}) for n, (session, role, text) in enumerate(TEXTS)]
    )
    with page_server(manager) as url:
        yield Shown(url, manager)
