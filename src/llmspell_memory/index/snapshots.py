"""What indexes in files have in common: typed errors, and a tag of the caller's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmspell_memory import _core
from llmspell_memory.errors import CorruptDataError, InputError, SchemaError, StorageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator


def damaged(path: str | os.PathLike[str], error: object, *, source: str = "vectors") -> CorruptDataError:
    """Return the error that tells of a damaged file, and that the index can be built anew from its `source`."""
    return CorruptDataError(f"the index snapshot {path} is damaged ({error}); build the index anew from its {source}")


@contextmanager
def translated(path: str | os.PathLike[str], *, source: str = "vectors") -> Iterator[None]:
    """The border to the core's files: every error leaves as one of ours, with the cause kept."""
    try:
        yield
    except _core.DamagedError as error:
        raise damaged(path, error, source=source) from error
    except _core.TooNewError as error:
        raise SchemaError(
            f"the index snapshot {path} has {error}, which this release cannot read; upgrade it"
        ) from error
    except OSError as error:
        raise StorageError(f"the index snapshot {path} cannot be read or written: {error}") from error


def checked_tag(tag: object) -> int:
    """Return `tag`, a number from 0 to 2**64 - 1.

    Raises:
        InputError: it is not one.
    """
    if isinstance(tag, bool) or not isinstance(tag, int) or not 0 <= tag < 2**64:
        raise InputError(f"tag must be an integer in 0..2**64-1, got {tag!r}")
    return tag
