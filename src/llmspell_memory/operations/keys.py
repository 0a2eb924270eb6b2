"""API keys of a memory that is served: who may do what in which namespace, kept in a note of the store.

A key is 256 random bits, told once when it is made. The store keeps its SHA-256, from which it cannot be found: a slow
hash guards what people choose, and nobody chose this. So every store can have keys, and all servers of it know them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from llmspell_memory.errors import ConfigError, CorruptDataError, InputError, NotFoundError
from llmspell_memory.types.text import checked_namespace, checked_text, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmspell_memory.protocols import EpisodicBackend

NOTE: Final = "server.keys"
"""The name of the note; those that begin with `server.` are not shown to clients."""

Access: TypeAlias = Literal["read", "write"]
"""What a key may do: read alone, or write, too."""

_FORM: Final = re.compile(r"lsm_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY: Final = hashlib.sha256(secrets.token_bytes()).hexdigest()
"""What a secret is compared with where there is no such key, so that this takes as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key, without its secret.

    Attributes:
        id: what it is known by; part of the key, and no secret.
        name: what it is for.
        namespace: all that it shows and lets change, with what is below; () for the whole store.
        access: "read", or "write", which means both.
        digest: SHA-256 of the secret, in hexadecimal.
        created: when it was made.
    """

    id: str
    name: str
    namespace: tuple[str, ...]
    access: Access
    digest: str
    created: datetime

    @property
    def writes(self) -> bool:
        """Whether it may change anything."""
        return self.access == "write"


class Keys:
    """The keys at one moment."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = {key.id: key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, given: str) -> ApiKey | None:
        """Return the key whose secret this is, None where there is none; compared in constant time."""
        form = _FORM.fullmatch(given)
        name, secret = form.groups() if form else ("", "")
        key = self._keys.get(name)
        same = hmac.compare_digest(_digest(secret), _NOBODY if key is None else key.digest)
        return key if same else None


def read_keys(backend: EpisodicBackend) -> list[ApiKey]:
    """Return the keys of a store, the oldest first.

    Raises:
        CorruptDataError: the note is not as it was written.
    """
    text = backend.read_note(NOTE)
    if text is None:
        return []
    try:
        return [_key(one) for one in json.loads(text)["keys"]]
    except (ValueError, LookupError, TypeError) as error:
        raise CorruptDataError(f"the store's note {NOTE!r} holds no keys as they were written: {error}") from error


def add_key(
    backend: EpisodicBackend, name: str, *, namespace: tuple[str, ...] = (), access: Access = "read"
) -> tuple[ApiKey, str]:
    """Make a key, and return it with its whole text, which is told this once; servers know it within seconds.

    Args:
        backend: of the whole store.
        name: what it is for; no other key has it.
        namespace: all that it shows.
        access: what it may do.

    Raises:
        InputError: another key has that name, or an argument is not acceptable.
        ConfigError: `backend` is a scope.
    """
    if backend.namespace:
        raise ConfigError("keys are of the whole store; a scope cannot have some of its own")
    if access not in get_args(Access):
        raise InputError(f'access must be "read" or "write", got {access!r}')
    there = read_keys(backend)
    if any(key.name == name for key in there):
        raise InputError(f"there is a key named {shortened(name)}; revoke it first, or give this one another name")
    secret = secrets.token_urlsafe(32)
    key = ApiKey(
        id=secrets.token_hex(6),
        name=checked_text(name, name="name"),
        namespace=checked_namespace(namespace),
        access=access,
        digest=_digest(secret),
        created=datetime.now(UTC),
    )
    _write(backend, [*there, key])
    return key, f"lsm_{key.id}_{secret}"


def revoke_key(backend: EpisodicBackend, name: str) -> ApiKey:
    """Remove the key of this name or id, and return it; servers refuse it within seconds.

    Raises:
        NotFoundError: there is none.
    """
    there = read_keys(backend)
    found = [key for key in there if name in (key.name, key.id)]
    if not found:
        raise NotFoundError(f"there is no key named {shortened(name)}")
    _write(backend, [key for key in there if key not in found])
    return found[0]


def _write(backend: EpisodicBackend, keys: list[ApiKey]) -> None:
    told = [
        {
            "id": key.id,
            "name": key.name,
            "namespace": list(key.namespace),
            "access": key.access,
            "digest": key.digest,
            "created": key.created.isoformat(),
        }
        for key in keys
    ]
    backend.write_note(NOTE, json.dumps({"keys": told}))


def _key(given: dict[str, Any]) -> ApiKey:
    return ApiKey(
        **given | {"namespace": tuple(given["namespace"]), "created": datetime.fromisoformat(given["created"])}
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
