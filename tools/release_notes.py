"""The notes of a release: its section of CHANGELOG.md.

    python tools/release_notes.py v0.2.0

It refuses a version that has no section, an empty one or one without a date, and one that is not the package's own:
then tag, changelog and code do not speak of the same thing, and nothing may be published.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


class ReleaseError(Exception):
    """Tag, changelog and code contradict each other; the message says in what."""


def own_version(source: str) -> str:
    """Return the version that the package's `__init__.py` states."""
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if found is None:
        raise ReleaseError("__init__.py states no __version__")
    return found[1]


def notes(changelog: str, tag: str, *, version: str) -> str:
    """Return the section of a version, without its heading.

    Args:
        changelog: the whole of CHANGELOG.md.
        tag: the version to be released, with or without a "v" before it.
        version: the package's own.

    Raises:
        ReleaseError: the version is not the package's own, or the changelog does not have it, dated and not empty.
    """
    wanted = tag.removeprefix("v")
    if wanted != version:
        raise ReleaseError(f"{tag} is to be released, but __version__ is {version}; change one of them")
    heading = re.compile(rf"^## \[{re.escape(wanted)}\] - \d{{4}}-\d\d-\d\d$", re.MULTILINE)
    found = list(heading.finditer(changelog))
    if len(found) != 1:
        raise ReleaseError(f'CHANGELOG.md has {len(found)} sections "## [{wanted}] - YYYY-MM-DD", and must have one')
    section = re.split(r"^## ", changelog[found[0].end() :], maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not section:
        raise ReleaseError(f"the section of {wanted} in CHANGELOG.md is empty")
    return section + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print the notes, or say on standard error what is wrong."""
    parser = argparse.ArgumentParser(description="Print the notes of a release.")
    parser.add_argument("tag", help="the version, or its tag")
    given = parser.parse_args(arguments)
    source = (ROOT / "src" / "llmspell_memory" / "__init__.py").read_text(encoding="utf-8")
    try:
        text = notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), given.tag, version=own_version(source))
    except ReleaseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
