"""A text file that is there whole, or not at all."""

from __future__ import annotations

import gzip
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from llmspell_memory.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """Give a stream in UTF-8 to a file beside `path`, which takes its place when the block ends well.

    A name in .gz is compressed.

    Raises:
        StorageError: it cannot be written. Nothing is left behind.
    """
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(number)
        half_done = Path(name)
        try:
            with _text_file(half_done, compressed=path.suffix == ".gz") as stream:
                yield stream
            half_done.replace(path)
        finally:
            half_done.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def _text_file(path: Path, *, compressed: bool) -> TextIO:
    if compressed:
        return cast("TextIO", gzip.open(path, "wt", encoding="utf-8", newline="\n"))
    return path.open("w", encoding="utf-8", newline="\n")
