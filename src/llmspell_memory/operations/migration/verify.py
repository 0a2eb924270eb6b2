"""Two stores compared: every field of every row by checksums, what differs row by row, and a sample of searches.

The source may be written meanwhile. Checksums are then of different moments; so every row that they do not agree in,
and every row that was written since they were begun, is compared again one by one, each time after the target has
caught up, until the source has stood still over a comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from llmspell_memory.operations.migration.digest import BUCKETS, Digest, bucket_of, differing_fields, row_number
from llmspell_memory.operations.migration.follow import found
from llmspell_memory.operations.migration.report import Mismatch, NamespaceCount, Verification
from llmspell_memory.operations.migration.sample import Sample, Truth, asked
from llmspell_memory.types import EpisodicEntry, Filter, Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmspell_memory.operations.migration.follow import Follower
    from llmspell_memory.operations.migration.report import Phase, Progress, RecallSample
    from llmspell_memory.protocols import EpisodicBackend

Rows: TypeAlias = Callable[[], Iterable[EpisodicEntry]]

ALL: Final = Filter(expired=None)
_PASSES: Final = 5
_NAMED: Final = 10
"""Mismatches that a report names."""

_MOST: Final = 200_000
"""Rows kept to find those that differ in groups that do; where more groups differ, the rest of them is only counted."""

_EVERY: Final = 1024
_PAGE: Final = 512


@dataclass(frozen=True, slots=True)
class Compared:
    """Rows of two sides, by their checksums."""

    source: Digest
    target: Digest
    suspects: set[Identity]
    more: int
    truth: Truth | None = None


def compare(
    source: Rows,
    target: EpisodicBackend,
    *,
    vectors: bool,
    spare: Collection[Identity] = (),
    searches: int = 0,
    on_rows: Callable[[int], object] | None = None,
) -> Compared:
    """Compare rows by checksums, and name those in groups that do not agree.

    Args:
        source: yields all rows of one side, each identity once.
        target: the other side.
        vectors: whether vectors are compared.
        spare: identities that do not count.
        searches: how many to find the exact answers of, on the way.
        on_rows: called now and then with how many rows were read, of both sides.
    """
    ours, theirs = (Digest(vectors=vectors, spare=spare) for _ in range(2))
    sample = Sample(searches)
    tell = _every(on_rows)
    for entry in source():
        ours.add(entry)
        sample.see(entry)
        tell(1)
    truth = Truth(list(sample.questions(target)), metric=target.space.metric)
    for entry in target.scan(ALL):
        theirs.add(entry)
        if entry.identity not in spare:
            truth.see(entry)
        tell(1)
    groups = ours.differing(theirs)
    looked_at = set(sorted(groups)[: max(1, _MOST // (ours.rows // BUCKETS + 1))])
    suspects = _suspects(source, target, looked_at, vectors=vectors, spare=spare) if looked_at else set()
    return Compared(ours, theirs, suspects, len(groups) - len(looked_at), truth)


def _every(on_rows: Callable[[int], object] | None) -> Callable[[int], None]:
    """Return a function that counts, and tells now and then."""
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if on_rows and done % _EVERY == 0:
            on_rows(done)

    return tell


def _suspects(
    source: Rows, target: EpisodicBackend, groups: set[int], *, vectors: bool, spare: Collection[Identity]
) -> set[Identity]:
    """Return the identities in these groups whose rows differ, or that one side alone has."""
    ours: dict[Identity, int] = {}
    differing: set[Identity] = set()
    for entry in source():
        name = entry.identity
        if bucket_of(name) in groups and name not in spare:
            ours[name] = row_number(entry, vectors=vectors)
            if len(ours) > _MOST:
                break  # the groups hold more than can be kept; what is left out would be named as surplus
    whole = len(ours) <= _MOST
    for entry in target.scan(ALL):
        name = entry.identity
        if bucket_of(name) not in groups or name in spare:
            continue
        known = ours.pop(name, None)
        surplus = known is None and whole and len(differing) < _MOST
        if surplus or (known is not None and known != row_number(entry, vectors=vectors)):
            differing.add(name)
    return differing | ours.keys()


# --- rows that differ, one by one -----------------------------------------------------------------------------------


def mismatch(
    name: Identity, ours: EpisodicEntry | None, theirs: EpisodicEntry | None, *, vectors: bool
) -> Mismatch | None:
    """Return how two rows of one identity differ; None where they do not."""
    if ours is None and theirs is None:
        return None
    if ours is None or theirs is None:
        what = "missing" if theirs is None else "surplus"
    else:
        what = ", ".join(differing_fields(ours, theirs, vectors=vectors))
    there = ours or theirs
    assert there is not None  # noqa: S101 (for the type checker)
    return Mismatch(namespace=name[0], id=name[1], session_id=there.session_id, what=what) if what else None


class Verifier:
    """Compares two stores, of which the source may be written meanwhile.

    Args:
        follower: from the source to the target; level, or nearly.
        vectors: whether vectors are compared.
        searches: how many to ask of both.
        on_progress: told of rows and searches.
    """

    def __init__(self, follower: Follower, *, vectors: bool, searches: int, on_progress: Progress | None) -> None:
        self._follower = follower
        self._source, self._target = follower.source, follower.target
        self._vectors = vectors
        self._searches = searches
        self._on_progress = on_progress

    def run(self) -> Verification:
        """Compare rows, then what is suspicious among them, then searches."""
        catch_up(self._follower)
        began = self._follower.position
        compared = compare(
            lambda: self._source.scan(ALL),
            self._target,
            vectors=self._vectors,
            spare=self._follower.spare,
            searches=self._searches,
            on_rows=self._teller("compare", 2 * self._target.count(ALL)),
        )
        changed, forgotten = self._changed(began)
        moved = bool(changed or forgotten)
        mismatches, unsettled = self._settle(compared.suspects | changed)
        return Verification(
            rows=compared.target.rows,
            sessions=len(compared.target.sessions),
            namespaces=namespace_counts(compared),
            checksums=(compared.source.checksum, compared.target.checksum),
            vectors=self._vectors,
            mismatches=tuple(mismatches[:_NAMED]),
            mismatched=len(mismatches) + (0 if moved else compared.more),
            unsettled=unsettled + (compared.more if moved else 0),
            again=len(changed),
            searches=self._ask(compared, still=not moved),
            indexed=is_indexed(self._target),
        )

    def _ask(self, compared: Compared, *, still: bool) -> tuple[RecallSample, ...]:
        assert compared.truth is not None  # noqa: S101 (for the type checker)
        catch_up(self._follower)
        still = still and not self._source.changes(self._follower.position, limit=1).put
        return asked(
            compared.truth,
            self._source,
            self._target,
            spare=self._follower.spare,
            still=still,
            on_done=self._teller("search", len(compared.truth.questions)),
        )

    def _teller(self, phase: Phase, total: int) -> Callable[[int], object] | None:
        tell = self._on_progress
        return None if tell is None else lambda done: tell(phase, done, max(done, total))

    def _changed(self, since: int) -> tuple[set[Identity], bool]:
        """Return the identities that the source has changed since, and whether others were erased that none names."""
        names: set[Identity] = set()
        forgotten = False
        while (batch := self._source.changes(since)).reached > since:
            names |= {entry.identity for entry in batch.put} | set(batch.gone)
            forgotten |= batch.forgotten
            since = batch.reached
        return names, forgotten

    def _settle(self, names: Iterable[Identity]) -> tuple[list[Mismatch], int]:
        """Compare rows one by one; return those that differ, and how many were written at every look."""
        settled: dict[Identity, Mismatch] = {}
        left, unsettled = set(names), 0
        for _ in range(_PASSES):
            catch_up(self._follower)
            differing = {(one.namespace, one.id): one for one in self._differing(left)}
            moved, forgotten = self._changed(self._follower.position)  # a row that is not among these stood still
            again = {name for name, one in differing.items() if name in moved or (forgotten and one.what == "surplus")}
            settled |= {name: one for name, one in differing.items() if name not in again}
            left, unsettled = again | moved, len(again)
            if not left:
                break
        return [settled[name] for name in sorted(settled)], unsettled

    def _differing(self, names: Iterable[Identity]) -> Iterator[Mismatch]:
        left = sorted(name for name in names if name not in self._follower.spare)
        for start in range(0, len(left), _PAGE):
            some = left[start : start + _PAGE]
            ours, theirs = found(self._source, inside(some, self._source)), found(self._target, some)
            for name in some:
                if one := mismatch(name, ours.get(name), theirs.get(name), vectors=self._vectors):
                    yield one


def inside(names: Iterable[Identity], source: EpisodicBackend) -> list[Identity]:
    """Return the identities that a source may be asked for: a scope refuses others."""
    depth = len(source.namespace)
    return [name for name in names if name[0][:depth] == source.namespace]


def namespace_counts(compared: Compared) -> tuple[NamespaceCount, ...]:
    """Return counts by namespace, the largest first."""
    ours, theirs = compared.source.namespaces, compared.target.namespaces
    lines = [NamespaceCount(namespace=one, source=ours[one], target=theirs[one]) for one in ours.keys() | theirs.keys()]
    return tuple(sorted(lines, key=lambda one: (-one.source, one.namespace)))


def is_indexed(target: EpisodicBackend) -> bool:
    """Say whether the target's index has all rows; one that waits for its first search is not asked."""
    stats = target.stats()
    return not stats.index.size or stats.lag > 0 or stats.index.size == stats.entries


def catch_up(follower: Follower, *, most: int = 256) -> int:
    """Step until level, or `most` times where the source is written faster; return how many rows were applied."""
    total = 0
    for _ in range(most):
        applied = follower.step()
        if applied is None:
            break
        total += applied
    return total
