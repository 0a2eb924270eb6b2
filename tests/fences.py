"""The pages of the documentation: their fences, and a reader that runs them; see tests/interfaces/test_docs.py."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]

FENCE: Final = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_OURS: Final = re.compile(r"^(?:.*\| )?llmspell-memory ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block: its language, its code, the line it starts on, and what is said about it."""

    language: str
    code: str
    line: int
    mark: str

    @property
    def reason(self) -> str | None:
        """Why it is not run; None where it is."""
        return self.mark.removeprefix("not run:").strip() if self.mark.startswith("not run") else None

    @property
    def is_ours(self) -> bool:
        """Whether it is a shell fence about the command line, not about the checkout."""
        return self.language == "sh" and _OURS.search(self.code) is not None


def fences(page: Path) -> list[Fence]:
    text = page.read_text(encoding="utf-8")
    return [
        Fence(found["language"], found["code"], text.count("\n", 0, found.start("code")) + 1, found["mark"] or "")
        for found in FENCE.finditer(text)
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Reader:
    """Runs a page's fences one after the other, as a reader would.

    Args:
        page: the page, for messages.
        folder: where files go.
    """

    def __init__(self, page: Path, folder: Path) -> None:
        self._page = page
        self._folder = folder
        self._namespace: dict[str, Any] = {"__name__": "__docs__"}
        self._printed = ""

    def read(self, fence: Fence) -> None:
        if fence.mark == "output":
            assert_printed(fence.code, self._printed, where=f"{name_of(self._page)}:{fence.line}")
        elif fence.reason is None and fence.language == "python":
            self._printed = self._python(fence)
        elif fence.reason is None and fence.is_ours:
            self._printed = self._shell(fence)

    def _python(self, fence: Fence) -> str:
        padded = "\n" * (fence.line - 1) + fence.code  # so that a traceback names the page's own line
        code = compile(padded, str(self._page), "exec", dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, self._namespace)  # noqa: S102 (it is our own documentation)
        return printed.getvalue()

    def _shell(self, fence: Fence) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-eu", "-c", fence.code],
            cwd=self._folder,
            env={"PATH": path, "HOME": str(self._folder), "COLUMNS": "120", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{name_of(self._page)}:{fence.line}\n{fence.code}\n{done.stdout}"
        return done.stdout


def assert_printed(expected: str, printed: str, *, where: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    same = doctest.OutputChecker().check_output(expected, printed, flags)
    assert same, f"{where}: the page shows\n{expected}\nbut what ran printed\n{printed}"
