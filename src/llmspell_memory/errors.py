"""Every error the library raises on purpose, in one tree.

    EpisodicError
    ├── ConfigError           (ValueError)    a setting is wrong, or settings contradict each other
    ├── InputError            (ValueError)    an argument is wrong
    │   └── DimensionError                    a vector of the wrong width
    ├── NotFoundError         (LookupError)   no entry has that id
    ├── NotReadyError         (RuntimeError)  a rollout's candidate may not take over yet; says what it lacks
    ├── EmbeddingError                        a provider failed, or gave back something unusable
    ├── ClosedError           (RuntimeError)  the manager, backend or service was closed
    ├── MissingDependencyError (ImportError)  an extra is not installed; says the pip line
    └── StorageError                          the store could not do it
        ├── UnavailableError                  busy or unreachable: trying again may help
        ├── CorruptDataError                  a row or file cannot be read; says which
        └── SchemaError                       written by a newer version, or in another embedding space
            └── SpaceChangedError             the embedding space was changed while the store was open

Drivers' own errors are translated where the driver is called, with the original kept as ``__cause__``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class EpisodicError(Exception):
    """Root of every error raised by this library."""


class ConfigError(EpisodicError, ValueError):
    """A setting is out of range, or two settings contradict each other."""


class InputError(EpisodicError, ValueError):
    """An argument is not acceptable; the message says what would be."""


class DimensionError(InputError):
    """A vector has the wrong width."""

    def __init__(self, *, expected: int, got: int) -> None:
        super().__init__(f"expected a vector of {expected} dimensions, got {got}")
        self.expected = expected
        self.got = got


class NotFoundError(EpisodicError, LookupError):
    """No entry has the given id."""


class NotReadyError(EpisodicError, RuntimeError):
    """A rollout's candidate does not meet the bar, and may not take over yet.

    Attributes:
        missing: what it lacks, a sentence each.
    """

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(f"the candidate is not ready: {'; '.join(missing)}. promote(force=True) takes it as it is")
        self.missing = tuple(missing)


class EmbeddingError(EpisodicError):
    """An embedding provider failed, or what it gave back cannot be used.

    Attributes:
        retryable: the same call may succeed later (too many requests, a server's fault, a cut connection, a timeout).
        retry_after: seconds the server asked to wait, None where it did not say.
    """

    def __init__(self, message: str, *, retryable: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after


class ClosedError(EpisodicError, RuntimeError):
    """The object was used after it was closed."""


class MissingDependencyError(EpisodicError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f'{package} is not installed; run: pip install "llmspell-memory[{extra}]"')
        self.package = package
        self.extra = extra


class StorageError(EpisodicError):
    """The store could not do what was asked; nothing was half-done."""


class UnavailableError(StorageError):
    """The store is busy or cannot be reached; trying again may help."""


class CorruptDataError(StorageError):
    """A stored row or file cannot be read; the message names it."""


class SchemaError(StorageError):
    """The store was written by a newer version, or holds another embedding space."""


class SpaceChangedError(SchemaError):
    """The store was moved to another embedding space meanwhile; what was given is of the former one."""
