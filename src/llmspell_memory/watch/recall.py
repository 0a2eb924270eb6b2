"""Recall of the searches of one memory, estimated from a share of them while it is used."""

from __future__ import annotations

import logging
import random
from collections import deque
from typing import TYPE_CHECKING, Final

from llmspell_memory.types import Filter, RecallEstimate, RecallStats
from llmspell_memory.watch.comparing import Comparer, Sample
from llmspell_memory.watch.interval import interval

if TYPE_CHECKING:
    from llmspell_memory.protocols import EpisodicBackend
    from llmspell_memory.types import EmbeddingSpace, Vector, Watch
    from llmspell_memory.watch.comparing import Epoch

logger = logging.getLogger(__name__)

_WINDOW: Final = 1_000
"""Comparisons that an estimate is from, the last ones."""

_KINDS: Final = 16
_OTHER: Final = "other"
_RECORDED: Final = 256
"""Queries kept as they were asked."""

_ENOUGH: Final = 30
"""Comparisons before the log may warn."""

_MOST_EF: Final = 100_000


class LiveRecall:
    """Chooses searches to be compared, and keeps what came of it.

    Args:
        watch: share, budget and floor.
        backend: answers the searches of the store as a whole, untold of by traces.
        comparer: runs searches again; one of its own when None.
        outer: of the memory that this one is a scope of; it learns of everything here.
        namespace: of the scope.
    """

    def __init__(
        self,
        watch: Watch,
        backend: EpisodicBackend,
        *,
        comparer: Comparer | None = None,
        outer: LiveRecall | None = None,
        namespace: tuple[str, ...] = (),
    ) -> None:
        self._watch = watch
        self._backend = backend
        self._outer = outer
        self._namespace = namespace
        self._comparer = comparer or Comparer(backend, watch.budget)
        self._chance = random.Random()  # noqa: S311 (which searches are looked at is no secret)
        self._recorded: deque[tuple[EmbeddingSpace, Vector, int, Filter]] = deque(maxlen=_RECORDED)
        self._sampled = self._dropped = self._failed = 0
        self._epoch: Epoch | None = None
        self._all: deque[float] = deque(maxlen=_WINDOW)
        self._kinds: dict[str, deque[float]] = {}
        self._alarmed: set[str] = set()
        self.left = 0  # searches until the next one chosen; counted down by whoever searches
        self._choose_next()

    def scoped(self, namespace: tuple[str, ...]) -> LiveRecall:
        """Return one for the memory of a namespace."""
        return LiveRecall(self._watch, self._backend, comparer=self._comparer, outer=self, namespace=namespace)

    def _choose_next(self) -> None:
        """Draw how many searches to let pass: at random, for the user's own may come in a rhythm."""
        share = self._watch.share
        self.left = self._chance.randint(1, max(1, round(2 / share) - 1)) if share else 1 << 62

    def sample(self, vector: Vector, k: int, where: Filter) -> None:
        """Have a search compared that was just answered, if an HNSW index answered it."""
        self._choose_next()
        if self._backend.hnsw is None or not k:
            return
        own, space = vector.copy(), self._backend.space  # the caller may change theirs
        self.chosen(space, own, k, where)
        self._comparer.offer(Sample(self, own, k, where.within(self._namespace), space))

    def chosen(self, space: EmbeddingSpace, vector: Vector, k: int, where: Filter) -> None:
        """Count and record a search that is to be compared."""
        self._sampled += 1
        self._recorded.append((space, vector, k, where))
        if self._outer is not None:
            self._outer.chosen(space, vector, k, where.within(self._namespace))

    def recorded(self) -> list[tuple[Vector, int, Filter]]:
        """Return the last 256 searches chosen in the present space, oldest first: vector, k and filter, as asked."""
        present = self._backend.space
        return [(vector, k, where) for space, vector, k, where in list(self._recorded) if space == present]

    def judged(self, epoch: Epoch, where: Filter, recall: float) -> None:
        """Take in the recall of a search, whose filter is of the store; called by the comparing thread."""
        with self._comparer.lock:
            self._renew(epoch)
            name = self._kind_of(where)
            window = self._kinds.setdefault(name, deque(maxlen=_WINDOW))
            for one in (window, self._all):
                one.append(recall)
        if self._outer is not None:
            self._outer.judged(epoch, where, recall)
        else:
            self._warn(name, window, epoch)

    def left_out(self, *, failed: bool) -> None:
        """Count a search that was chosen and not compared."""
        self._dropped += 1
        self._failed += failed
        if self._outer is not None:
            self._outer.left_out(failed=failed)

    def _renew(self, epoch: Epoch) -> None:
        """Forget recalls of another epoch."""
        if self._epoch != epoch:
            self._epoch = epoch
            self._all.clear()
            self._kinds.clear()
            self._alarmed.clear()

    def _kind_of(self, where: Filter) -> str:
        name = conditions(where, within=self._namespace)
        return name if name in self._kinds or len(self._kinds) < _KINDS - 1 else _OTHER

    def _warn(self, name: str, window: deque[float], epoch: Epoch) -> None:
        if len(window) < _ENOUGH or epoch.hnsw is None:
            return
        mean, low, high = interval(window)
        if high >= self._watch.floor:
            self._alarmed.discard(name)
        elif name not in self._alarmed:
            self._alarmed.add(name)
            ef_search = epoch.hnsw.ef_search
            logger.warning(
                "Recall of searches (filter: %s) is %.3f, between %.3f and %.3f, below %.2f: raise ef_search from %d to"
                " %d (set_ef_search), and if that is not enough, rebuild with a larger m; `llmspell-memory tune` finds"
                " what is enough",
                *(name, mean, low, high, self._watch.floor, ef_search, min(2 * ef_search, _MOST_EF)),
                extra={
                    "filter": name,
                    "recall": mean,
                    "recall_low": low,
                    "recall_high": high,
                    "recall_floor": self._watch.floor,
                    "ef_search": ef_search,
                },
            )

    def reset(self) -> None:
        """Begin anew, for the index is another one."""
        self._comparer.begin_anew()

    def stats(self) -> RecallStats | None:
        """Return the estimates; None where nothing was compared through the present index."""
        epoch = self._comparer.epoch
        with self._comparer.lock:
            if epoch != self._epoch or epoch.hnsw is None or not self._all:
                return None
            overall, kinds = list(self._all), {name: list(one) for name, one in self._kinds.items()}
        mean, low, high = interval(overall)
        return RecallStats(
            recall=mean,
            low=low,
            high=high,
            comparisons=len(overall),
            by_filter={name: _estimate(kinds[name]) for name in sorted(kinds)},
            sampled=self._sampled,
            dropped=self._dropped,
            failed=self._failed,
            cpu_share=self._comparer.cpu_share if self._outer is None else 0.0,
        )

    def close(self) -> None:
        """Stop comparing; of a scope, nothing is to be stopped."""
        if self._outer is None:
            self._comparer.end()


def conditions(where: Filter, *, within: tuple[str, ...] = ()) -> str:
    """Return the names of a filter's conditions, joined by "+"; "none" where it has none in the namespace `within`."""
    given = (
        ("session", where.session_id is not None),
        ("role", where.role is not None),
        ("since", where.since is not None),
        ("until", where.until is not None),
        ("known_by", where.known_by is not None),
        ("processed", where.processed is not None),
        ("metadata", bool(where.metadata)),
        ("namespace", where.namespace not in ((), within) or not where.below),
        ("expired", where.expired is not False),
        ("ids", where.ids is not None),
    )
    return "+".join(name for name, is_given in given if is_given) or "none"


def _estimate(recalls: list[float]) -> RecallEstimate:
    mean, low, high = interval(recalls)
    return RecallEstimate(recall=mean, low=low, high=high, comparisons=len(recalls))
