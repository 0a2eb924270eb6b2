"""Writes that are sent again: an `Idempotency-Key` is answered twice, and done once.

After draft-ietf-httpapi-idempotency-key-header. Answers are kept for a day, in this process; what is to hold over its
end as well is made of the key itself (see `made_id`).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

from llmspell_memory.server.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_DAY: Final = 86_400.0
_MOST: Final = 20_000
_MOST_BYTES: Final = 32 << 20
_LONGEST: Final = 255
_SERVER_FAULT: Final = 500
_IDS: Final = UUID("0d3c6f9b-9f3e-5a55-8b66-6c6c6d536d01")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a write was answered."""

    status: int
    body: bytes


@dataclass(slots=True)
class _Kept:
    print: bytes
    at: float
    answer: asyncio.Future[Answer]
    size: int = 0


def checked_key(given: str) -> str:
    """Return an idempotency key if it is one."""
    if not 1 <= len(given) <= _LONGEST or not (given.isascii() and given.isprintable()) or " " in given:
        raise Refusal(
            422, f"Idempotency-Key must be 1 to {_LONGEST} printable ASCII characters, no space", name="InputError"
        )
    return given


def made_id(caller: str, key: str, number: int) -> str:
    """Return the id of an entry that came without one: the same again when the request is sent again."""
    return str(uuid5(_IDS, f"{caller}\0{key}\0{number}"))


class Repeats:
    """The answers of writes, by who sent them and their idempotency key."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._bytes = 0

    async def once(
        self, caller: str, key: str, content: bytes, do: Callable[[], Awaitable[Answer]]
    ) -> tuple[Answer, bool]:
        """Return the answer to a write, and whether it was done before; another one still at it is waited for.

        A write that failed is done again the next time.

        Args:
            caller: whose key it is.
            key: the idempotency key.
            content: the request, so that another one under the same key is told from it.
            do: does it.

        Raises:
            Refusal: another request was sent with this key.
        """
        name, told = (caller, key), hashlib.sha256(content).digest()
        self._drop_old()
        while (known := self._kept.get(name)) is not None:
            if known.print != told:
                raise Refusal(422, "this Idempotency-Key was sent with another request", name="InputError")
            answer = await asyncio.shield(_outcome(known.answer))
            if answer is not None:
                return answer, True
            if self._kept.get(name) is known:
                del self._kept[name]
        mine = self._kept[name] = _Kept(told, time.monotonic(), asyncio.get_running_loop().create_future())
        try:
            answer = await do()
        except BaseException:
            mine.answer.cancel()
            self._forget(name, mine)
            raise
        mine.answer.set_result(answer)
        if answer.status >= _SERVER_FAULT:
            self._forget(name, mine)
        else:
            mine.size = len(answer.body)
            self._bytes += mine.size
        return answer, False

    def _forget(self, name: tuple[str, str], kept: _Kept) -> None:
        if self._kept.get(name) is kept:
            del self._kept[name]

    def _drop_old(self) -> None:
        before = time.monotonic() - _DAY
        while self._kept:
            name, oldest = next(iter(self._kept.items()))
            if not oldest.answer.done() or (
                oldest.at > before and len(self._kept) < _MOST and self._bytes <= _MOST_BYTES
            ):
                return
            self._bytes -= oldest.size
            del self._kept[name]


async def _outcome(answer: asyncio.Future[Answer]) -> Answer | None:
    """Wait for another's answer; None where it came to none."""
    await asyncio.wait([answer])
    return None if answer.cancelled() else answer.result()
