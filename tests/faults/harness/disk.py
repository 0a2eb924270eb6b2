"""A disk that loses power: it keeps what was synced, and of what was not, some."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.faults.harness.writers import Call

SECTOR: Final = 512

LUCK: Final = ("none", "all", "first", "some", "torn")
"""What becomes of writes that were not synced: all are lost, none is; those from some on are; any of them; any of them,
and of one only the sectors up to some place, or from there on, are written."""


@dataclass
class File:
    """Bytes on the disk, and changes that the disk has not been made to keep."""

    kept: bytearray = field(default_factory=bytearray)
    waiting: list[Call] = field(default_factory=list)

    def sync(self) -> None:
        for call in self.waiting:
            change(self.kept, call)
        self.waiting.clear()

    def after_cut(self, chance: random.Random, luck: str) -> bytearray:
        content = bytearray(self.kept)
        for call in chosen(self.waiting, chance, luck):
            change(content, call)
        return content


def change(content: bytearray, call: Call) -> None:
    if call.kind == "truncate":
        del content[call.at :]
        content.extend(bytes(call.at - len(content)))
    else:
        content.extend(bytes(max(0, call.at - len(content))))
        content[call.at : call.at + len(call.data)] = call.data


def chosen(calls: list[Call], chance: random.Random, luck: str) -> list[Call]:
    if luck == "none":
        return []
    if luck == "all":
        return calls
    if luck == "first":
        return calls[: chance.randint(0, len(calls))]
    some = [call for call in calls if chance.random() < 0.5]
    writes = [at for at, call in enumerate(some) if call.kind == "write"]
    if luck == "torn" and writes:
        at = chance.choice(writes)
        some[at] = torn(some[at], chance)
    return some


def torn(call: Call, chance: random.Random) -> Call:
    """Return a write of which only the sectors on one side of a boundary reached the disk."""
    first = -call.at % SECTOR
    boundaries = range(first, len(call.data), SECTOR)
    if not boundaries:
        return call
    boundary = chance.choice(boundaries)
    if chance.random() < 0.5:
        return call._replace(data=call.data[:boundary])
    return call._replace(at=call.at + boundary, data=call.data[boundary:])


class Disk:
    """The files of one folder, changed call by call.

    Names are changed in the order of the calls, as journals do it, and for certain once the folder is synced.
    """

    def __init__(self, folder: Path) -> None:
        self._names: dict[str, File] = {}
        self._by_inode: dict[int, File] = {}
        self._waiting: list[tuple[Call, File | None]] = []
        for path in folder.iterdir():
            file = File(bytearray(path.read_bytes()))
            self._names[str(path)] = self._by_inode[path.stat().st_ino] = file

    def see(self, call: Call) -> None:
        """Let a call be made."""
        match call.kind:
            case "create":
                file = self._by_inode[call.inode] = File()
                self._waiting.append((call, file))
            case "rename" | "link" | "unlink":
                self._waiting.append((call, None))
            case "write" | "truncate":
                self._by_inode[call.inode].waiting.append(call)
            case "sync":
                self._by_inode[call.inode].sync()
            case "folder":
                for one in self._waiting:
                    rename(self._names, one)
                self._waiting.clear()

    def after_cut(self, chance: random.Random, luck: str) -> dict[str, bytearray]:
        """Return names and contents as they may be when the power is back."""
        names = dict(self._names)
        many = {"none": 0, "all": len(self._waiting)}.get(luck, chance.randint(0, len(self._waiting)))
        for one in self._waiting[:many]:
            rename(names, one)
        return {name: file.after_cut(chance, luck) for name, file in names.items()}


def rename(names: dict[str, File], change: tuple[Call, File | None]) -> None:
    call, file = change
    match call.kind:
        case "create":
            assert file is not None
            names[call.path] = file
        case "rename":
            names[call.path] = names.pop(call.data.decode())
        case "link":
            names[call.path] = names[call.data.decode()]
        case "unlink":
            del names[call.path]
