"""The site, built as `make docs` builds it, and its pages by section."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def squeezed(text: str) -> str:
    """Return a text without white space, marks of code and signs of a link, which pages set in other places."""
    return "".join(text.replace("`", "").replace("¶", "").split())


@dataclass
class Section:
    """What stands under a heading: its title, all its words, and the terms that it explains, each with its meaning."""

    title: str = ""
    text: str = ""
    terms: list[str] = field(default_factory=list)
    meanings: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


class PageReader(HTMLParser):
    """Reads the sections of a page by the anchors of their headings."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: dict[str, Section] = {}
        self.anchors: set[str] = set()
        self.asked: list[str] = []
        self._at = Section()
        self._title = False
        self._term = False
        self._open: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        if tag in {"script", "img", "iframe"} or (tag == "link" and given.get("rel") != "canonical"):
            self.asked.append(given.get("src", given.get("href", "")))
        if tag in {"h2", "h3"}:
            self._at = self.sections[given["id"]] = Section() if "id" in given else self._at
            self._title = True
        elif tag == "dt":
            self._at.terms.append("")
            self._at.meanings.append("")
            self._term = True
        elif tag == "dd":
            self._open.append(len(self._at.terms) - 1)
        elif tag == "a":
            self._at.links.append(given.get("href", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in {"h2", "h3"}:
            self._title = False
        elif tag == "dt":
            self._term = False
        elif tag == "dd":
            self._open.pop()
        elif tag == "article":
            self._at = Section()  # what follows is navigation

    def handle_data(self, data: str) -> None:
        self._at.text += data
        if self._title:
            self._at.title += data
        if self._term:
            self._at.terms[-1] += data
        for term in self._open:
            self._at.meanings[term] += data


def page_of(site: Path, name: str) -> PageReader:
    reader = PageReader()
    reader.feed((site / name).read_text(encoding="utf-8"))
    reader.close()
    return reader


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site; --strict, so a link or an anchor that leads nowhere is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
