"""The pages, trees and records of a database file, read without SQLite, so that one damaged page hides no other.

The format is SQLite's (sqlite.org/fileformat2.html). Nothing here knows what the tables mean.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from llmspell_memory.backends.sqlite.pages import CHECKSUM_BYTES, CHECKSUMMED, PAGE_BYTES, is_right
from llmspell_memory.backends.sqlite.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK_PAGE: Final = 2**30 // PAGE_BYTES + 1
"""SQLite locks the bytes of this page and never writes it (section 1.4)."""

_TABLE_LEAF: Final = 0x0D
_TABLE_INTERIOR: Final = 0x05
_INDEX_LEAF: Final = 0x0A
_INDEX_INTERIOR: Final = 0x02
_TABLES: Final = {_TABLE_LEAF, _TABLE_INTERIOR}
_INDEXES: Final = {_INDEX_LEAF, _INDEX_INTERIOR}
_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8)
_LIKELY: Final = 64
"""Pages looked at to find out whether a file has checksums."""


MAGIC: Final = b"SQLite format 3\0"


class DamageError(Exception):
    """Something in the file is not as the format has it; caught where it can be reported or passed over."""


class PageFile:
    """The pages of one file, those in its write-ahead log in place of its own; numbers begin with 1.

    Args:
        path: of the file. Nobody may write to it meanwhile, unless a read transaction keeps this moment for us.

    Attributes:
        count: how many pages there are.
        checksums: whether they have checksums.
        header: the first 100 bytes, of a first page that may be damaged.
    """

    def __init__(self, path: Path) -> None:
        self._file = Reader(path)
        try:
            self.header = self._file.read(0, 100).ljust(100, b"\0")
            size = struct.unpack_from(">H", self.header, 16)[0]
            self.checksums = self._has_checksums()
            plain = self.header[:16] == MAGIC and size in {1, *(2**n for n in range(9, 16))}
            self.page_bytes = (65536 if size == 1 else size) if plain and not self.checksums else PAGE_BYTES
            self.usable = self.page_bytes - (CHECKSUM_BYTES if self.checksums else 0)
            self._log, committed = _read_log(path.with_name(f"{path.name}-wal"), self.page_bytes)
            self.count = committed or -(-self._file.size // self.page_bytes)
            if 1 in self._log:
                self.header = self._log[1][:100]
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _has_checksums(self) -> bool:
        """Ask the pages and not the header alone, which may be what is damaged."""
        if self.header[20] == CHECKSUM_BYTES and self.header[68:72] == CHECKSUMMED.to_bytes(4):
            return True
        pages = min(self._file.size // PAGE_BYTES, _LIKELY)
        return any(is_right(self._stored(number, PAGE_BYTES), number) for number in range(1, pages + 1))

    def _stored(self, number: int, size: int) -> bytes:
        try:
            return self._file.read((number - 1) * size, size)
        except OSError:  # the medium cannot read it
            return b""

    def is_whole(self, number: int) -> bool:
        """Say whether a page of the file itself is what was written, as far as can be told."""
        data = self._stored(number, self.page_bytes)
        return len(data) == self.page_bytes and (not self.checksums or is_right(data, number))

    def is_empty(self, number: int) -> bool:
        """Say whether nothing was ever written to a page of the file itself."""
        return not any(self._stored(number, self.page_bytes))

    def page(self, number: int) -> bytes:
        """Return a page.

        Raises:
            DamageError: it is not there, or not what was written.
        """
        if number in self._log:
            return self._log[number]
        if not 1 <= number <= self.count:
            raise DamageError(f"page {number} does not exist")
        data = self._stored(number, self.page_bytes)
        if len(data) != self.page_bytes or (self.checksums and not is_right(data, number)):
            raise DamageError(f"page {number} is not what was written")
        return data

    def damaged(self) -> list[int]:
        """Return the numbers of all pages that are not what was written, and that the log does not have."""
        return [
            number
            for number in range(1, self.count + 1)
            if number not in self._log and number != _LOCK_PAGE and not self.is_whole(number)
        ]

    def free(self) -> set[int] | None:
        """Return the numbers of the free pages (section 1.5); None where that cannot be told for certain.

        Of a first page that is damaged somewhere, the header is believed where all of it makes sense.
        """
        pages, trunk, expected = struct.unpack_from(">3I", self.header, 28)
        if self.header[:16] != MAGIC or (pages != self.count and not self.is_whole(1)):
            return None
        found: set[int] = set()
        try:
            while trunk and trunk not in found:
                data = self.page(trunk)
                following, leaves = struct.unpack_from(">2I", data)
                if leaves > self.usable // 4 - 2:
                    return None
                found |= {trunk, *struct.unpack_from(f">{leaves}I", data, 8)}
                trunk = following
        except DamageError:
            return None
        return found if len(found) == expected else None


def _read_log(path: Path, page_bytes: int) -> tuple[dict[int, bytes], int]:
    """Return the pages that a log's committed transactions have written, and how many the file then has (section 4)."""
    log = path.read_bytes() if path.exists() else b""
    if len(log) < 32 or log[:3] != b"\x37\x7f\x06" or struct.unpack_from(">I", log, 8)[0] != page_bytes:  # noqa: PLR2004
        return {}, 0
    order = ">" if log[3] & 1 else "<"
    salts = log[16:24]
    sums = _summed(log[:24], order, (0, 0))
    committed: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    pages = 0
    if sums != struct.unpack_from(">2I", log, 24):
        return {}, 0
    for at in range(32, len(log) - page_bytes - 23, page_bytes + 24):
        number, size_after = struct.unpack_from(">2I", log, at)
        page = log[at + 24 : at + 24 + page_bytes]
        sums = _summed(page, order, _summed(log[at : at + 8], order, sums))
        if log[at + 8 : at + 16] != salts or sums != struct.unpack_from(">2I", log, at + 16):
            break
        pending[number] = page
        if size_after:
            committed |= pending
            pending, pages = {}, size_after
    return committed, pages


def _summed(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """The log's own checksum (section 4.2)."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFF_FFFF
        second = (second + other + first) & 0xFFFF_FFFF
    return first, second


@dataclass(frozen=True, slots=True)
class Node:
    """A page of a tree: where its cells begin, and the children with the greatest label of each (None: no bound)."""

    number: int
    data: bytes
    cells: tuple[int, ...]
    children: tuple[tuple[int, int | None], ...]

    @property
    def kind(self) -> int:
        """The page's type, its first byte but on page 1."""
        return self.data[100 if self.number == 1 else 0]

    @property
    def has_rows(self) -> bool:
        """Whether its cells are a table's rows."""
        return self.kind == _TABLE_LEAF

    @property
    def has_keys(self) -> bool:
        """Whether its cells are an index's keys, as on inner pages, too."""
        return self.kind in _INDEXES


def node(file: PageFile, number: int) -> Node:
    """Return a page as part of a tree (section 1.6).

    Raises:
        DamageError: it is none, or damaged.
    """
    data = file.page(number)
    begin = 100 if number == 1 else 0
    kind, _, count = struct.unpack_from(">BHH", data, begin)
    inner = kind in {_TABLE_INTERIOR, _INDEX_INTERIOR}
    array = begin + (12 if inner else 8)
    if kind not in _TABLES | _INDEXES or array + 2 * count > file.usable:
        raise DamageError(f"page {number} is no part of a tree")
    cells = struct.unpack_from(f">{count}H", data, array)
    if any(not array + 2 * count <= cell <= file.usable - 4 for cell in cells):
        raise DamageError(f"page {number} has cells outside of it")
    children: list[tuple[int, int | None]] = []
    if inner:
        for cell in cells:
            label = _varint(data, cell + 4)[0] if kind == _TABLE_INTERIOR else None
            children.append((struct.unpack_from(">I", data, cell)[0], label))
        children.append((struct.unpack_from(">I", data, begin + 8)[0], None))
    return Node(number, data, cells, tuple(children))


@dataclass(frozen=True, slots=True)
class LostPage:
    """A page of a tree that cannot be read: its rows had labels above `low`, up to `high` where that is known."""

    number: int
    depth: int
    low: int
    high: int | None
    why: str


class Tree:
    """One table or index, walked from its root; what cannot be read is passed over and kept in `lost`.

    Attributes:
        reached: numbers of the pages walked so far.
        lost: pages that could not be read.
    """

    def __init__(self, file: PageFile, root: int) -> None:
        self._file = file
        self._root = root
        self._leaf_depth: int | None = None
        self.reached: set[int] = set()
        self.lost: list[LostPage] = []

    @property
    def hides(self) -> bool:
        """Whether a lost page may have had others below it; known when the walk is over."""
        return any(page.depth != self._leaf_depth for page in self.lost)

    @property
    def lost_leaves(self) -> list[LostPage]:
        """Those of the lost pages that had no others below them; known when the walk is over."""
        return [page for page in self.lost if page.depth == self._leaf_depth]

    def nodes(self) -> Iterator[Node]:
        """Yield all pages that can be read, in the order of their keys."""
        self.reached.clear()
        self.lost.clear()
        todo: deque[tuple[int, int, int, int | None]] = deque([(self._root, 0, -(2**63), None)])
        kinds: set[int] = set()
        while todo:
            number, depth, low, high = todo.popleft()
            try:
                if number in self.reached:
                    raise DamageError(f"page {number} is named twice")  # noqa: TRY301 (told like the others)
                page = node(self._file, number)
                kinds = kinds or (_TABLES if page.kind in _TABLES else _INDEXES)
                if page.kind not in kinds:
                    raise DamageError(f"page {number} is of another tree")  # noqa: TRY301
            except DamageError as error:
                self.lost.append(LostPage(number, depth, low, high, str(error)))
                continue
            self.reached.add(number)
            if page.children:
                below = []
                for child, label in page.children:
                    below.append((child, depth + 1, low, high if label is None else label))
                    low = low if label is None else label
                todo.extendleft(reversed(below))
            else:
                self._leaf_depth = depth
            yield page


def rows(file: PageFile, leaf: Node) -> Iterator[tuple[int | None, list[Any] | DamageError]]:
    """Yield labels and values of a leaf's rows; in place of values, and at times of a label, what is wrong."""
    for cell in leaf.cells:
        label = None
        try:
            size, at = _varint(leaf.data, cell)
            number, at = _varint(leaf.data, at)
            label = number
            yield label, _record(_payload(file, leaf, at, size))
        except DamageError as error:
            yield label, error


def keys(file: PageFile, page: Node) -> Iterator[list[Any]]:
    """Yield the keys of an index's page that can be read."""
    for cell in page.cells:
        try:
            size, at = _varint(page.data, cell + (4 if page.children else 0))
            yield _record(_payload(file, page, at, size))
        except DamageError:
            continue


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends (section 1.6)."""
    value = 0
    for count, byte in enumerate(data[at : at + 9], start=1):
        if count == 9:  # noqa: PLR2004 (the format's)
            value = value << 8 | byte
        else:
            value = value << 7 | byte & 0x7F
            if byte & 0x80:
                continue
        return (value - 2**64 if value >= 2**63 else value), at + count
    raise DamageError("a number is cut off")


def _payload(file: PageFile, page: Node, at: int, size: int) -> bytes:
    """A record's bytes, those on overflow pages included (section 1.6, the rules of X, M and K)."""
    usable = file.usable
    most = usable - 35 if page.has_rows else (usable - 12) * 64 // 255 - 23
    if not 0 <= size <= file.count * usable:
        raise DamageError(f"a record on page {page.number} cannot have {size} bytes")
    local = size
    if size > most:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
    parts = [page.data[at : at + local]]
    if at + local + (4 if local < size else 0) > usable:
        raise DamageError(f"a record on page {page.number} is cut off")
    following = struct.unpack_from(">I", page.data, at + local)[0] if local < size else 0
    left = size - local
    while left:
        data = file.page(following)
        parts.append(data[4 : min(usable, 4 + left)])
        left -= len(parts[-1])
        following = struct.unpack_from(">I", data)[0]
    return b"".join(parts)


def _record(payload: bytes) -> list[Any]:
    """The values of a record (section 2.1)."""
    end, at = _varint(payload, 0)
    values: list[Any] = []
    body = end
    while at < end:
        kind, at = _varint(payload, at)
        size = (kind - 12) // 2 if kind >= 12 else 8 if kind == 7 else 0 if kind >= 8 else _INTEGER_BYTES[kind]  # noqa: PLR2004
        if kind in {10, 11} or kind < 0 or body + size > len(payload):
            raise DamageError("a record is cut off")
        values.append(_value(kind, payload[body : body + size]))
        body += size
    return values


def _value(kind: int, data: bytes) -> Any:
    if kind >= 12:  # noqa: PLR2004 (the format's)
        try:
            return data.decode() if kind % 2 else data
        except UnicodeDecodeError as error:
            raise DamageError(f"a text is not UTF-8: {error.reason}") from error
    if kind in {8, 9}:
        return kind - 8
    if kind == 7:  # noqa: PLR2004
        return struct.unpack(">d", data)[0]
    return int.from_bytes(data, signed=True) if kind else None
