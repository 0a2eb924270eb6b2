"""Our index and its peers behind one small interface, each by the quickest way that it offers to Python."""

from __future__ import annotations

import contextlib
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import numpy as np
from measure import K

from llmspell_memory import HNSWConfig
from llmspell_memory.index import ExactIndex, HNSWIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmspell_memory.types import Matrix, Vector
    from llmspell_memory.types.arrays import Labels

M: Final = 16
EF_CONSTRUCTION: Final = 200
EFS: Final = (10, 12, 16, 24, 32, 50, 64, 100, 200)
OURS: Final = "llmspell-memory"
YARDSTICK: Final = "hnswlib"


class Setting(NamedTuple):
    """How an engine is to search: candidates kept, and whether codes are checked against whole vectors."""

    ef: int | None = None
    refine: bool = False

    def __str__(self) -> str:
        if self.ef is None:
            return "exact"
        return f"ef={self.ef}, refined" if self.refine else f"ef={self.ef}"


GRAPH: Final[Sequence[Setting]] = tuple(Setting(ef) for ef in EFS)
EXACT: Final[Sequence[Setting]] = (Setting(),)


class Engine:
    """An index that is built once from rows of unit length, and then searched at several settings."""

    name: ClassVar[str]
    settings: ClassVar[Sequence[Setting]] = GRAPH
    number_bytes: ClassVar[int] = 4
    """Bytes of one number of a stored vector."""

    def build(self, vectors: Matrix, threads: int) -> None:
        """Index `vectors`, whose labels are their row numbers."""
        raise NotImplementedError

    def searcher(self, setting: Setting) -> Callable[[Vector], Labels]:
        """Return what finds the labels of the k best on one thread; good until the next is asked for."""
        raise NotImplementedError

    def memory_bytes(self) -> int | None:
        """Return what the index takes with its vectors; None where it does not say."""
        return None

    def close(self) -> None:
        """Let go of what memory does not hold."""


class Ours(Engine):
    """This library's graph."""

    name = OURS

    def build(self, vectors: Matrix, threads: int) -> None:
        """Index `vectors` in one call."""
        self.index = new_index(vectors.shape[1])
        self.index.add(np.arange(len(vectors)), vectors, threads=threads)

    def searcher(self, setting: Setting) -> Callable[[Vector], Labels]:
        """Return a search through the public class."""
        search, ef = self.index.search, setting.ef
        return lambda query: search(query, K, ef_search=ef)[0]

    def memory_bytes(self) -> int:
        """Return what the index says of itself."""
        return self.index.stats().memory_bytes


class OursExact(Engine):
    """This library's exact index."""

    name = f"{OURS} exact"
    settings: ClassVar[Sequence[Setting]] = EXACT

    def build(self, vectors: Matrix, threads: int) -> None:
        """Keep `vectors`; there is nothing to share between `threads`."""
        del threads
        self._index = ExactIndex(dimensions=vectors.shape[1])
        self._index.add(np.arange(len(vectors)), vectors)

    def searcher(self, setting: Setting) -> Callable[[Vector], Labels]:
        """Return a scan."""
        del setting
        search = self._index.search
        return lambda query: search(query, K)[0]

    def memory_bytes(self) -> int:
        """Return what the index says of itself."""
        return self._index.stats().memory_bytes


class Numpy(Engine):
    """A matrix product and a partition: what one writes without an index."""

    name = "numpy"
    settings: ClassVar[Sequence[Setting]] = EXACT

    def build(self, vectors: Matrix, threads: int) -> None:
        """Keep `vectors` as they are."""
        del threads
        self._vectors = vectors

    def searcher(self, setting: Setting) -> Callable[[Vector], Labels]:
        """Return a scan."""
        del setting
        vectors = self._vectors
        return lambda query: best_of(vectors @ query)

    def memory_bytes(self) -> int:
        """Return the vectors' bytes."""
        return self._vectors.nbytes


class Hnswlib(Engine):
    """The reference implementation, float32."""

    name = YARDSTICK

    def build(self, vectors: Matrix, threads: int) -> None:
        """Index `vectors` by inner product: they have unit length, and cosine would scale every query."""
        self.index = new_hnswlib(vectors.shape[1], len(vectors))
        self.index.add_items(vectors, np.arange(len(vectors)), num_threads=threads)

    def searcher(self, setting: Setting) -> Callable[[Vector], Labels]:
        """Return a search of one row."""
        self.index.set_ef(setting.ef)
        search = self.index.knn_query
        return lambda query: search(query, K, num_threads=1)[0][0].astype(np.int64)

    def memory_bytes(self) -> int:
        """Return the size of its file, which is its memory written down."""
        return int(self.index.index_file_size())


class Usearch(Engine):
    """usearch, float32."""

    name = "usearch"

    def build(self, vectors: Matrix, threads: int) -> None:
        """Index `vectors` by inner product."""
        index = import_module("usearch.index")
        self._index = index.Index(
            ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=M, expansion_add=EF_CONSTRUCTION
        )
        self._index.add(np.arange(len(vectors)), vectors, threads=threads)

    def searcher(self, setting: Setting) -> Callable[[Vector], Labels]:
        """Return a search by one vector."""
        self._index.expansion_search = setting.ef
        search = self._index.search
        return lambda query: search(query, K, threads=1).keys.astype(np.int64)

    def memory_bytes(self) -> int:
        """Return what its arenas have reserved."""
        return int(self._index.memory_usage)


class FaissFlat(Engine):
    """The exact index of faiss."""

    name = "faiss flat"
    settings: ClassVar[Sequence[Setting]] = EXACT

    def build(self, vectors: Matrix, threads: int) -> None:
        """Index `vectors`; searches have one thread afterwards."""
        self._faiss = import_module("faiss")
        self.index = self.made(vectors.shape[1])
        self._faiss.omp_set_num_threads(threads)
        self.index.add(vectors)
        self._faiss.omp_set_num_threads(1)

    def made(self, dimensions: int) -> Any:
        """Return an empty index."""
        return self._faiss.IndexFlatIP(dimensions)

    def searcher(self, setting: Setting) -> Callable[[Vector], Labels]:
        """Return a search of one row."""
        del setting
        search = self.index.search
        return lambda query: search(query[None], K)[1][0]

    def memory_bytes(self) -> int | None:
        """Return the vectors' bytes."""
        return int(self.index.ntotal * self.index.code_size)


class FaissHNSW(FaissFlat):
    """The graph of faiss over float32."""

    name = "faiss HNSW"
    settings = GRAPH

    def made(self, dimensions: int) -> Any:
        """Return an empty graph."""
        index = self.graph(dimensions)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        return index

    def graph(self, dimensions: int) -> Any:
        """Return the graph over its kind of vectors."""
        return self._faiss.IndexHNSWFlat(dimensions, M, self._faiss.METRIC_INNER_PRODUCT)

    def searcher(self, setting: Setting) -> Callable[[Vector], Labels]:
        """Return a search of one row."""
        self.index.hnsw.efSearch = setting.ef
        return super().searcher(setting)

    def memory_bytes(self) -> int:
        """Return the bytes of vectors, links and levels."""
        hnsw = self.index.hnsw
        links = 4 * hnsw.neighbors.size() + 8 * hnsw.offsets.size() + 4 * hnsw.levels.size()
        return int(self.index.ntotal * self._faiss.downcast_index(self.index.storage).code_size + links)


class FaissHNSWHalf(FaissHNSW):
    """The graph of faiss over float16."""

    name = "faiss HNSW fp16"
    number_bytes = 2

    def graph(self, dimensions: int) -> Any:
        """Return the graph over its kind of vectors."""
        kind = self._faiss.ScalarQuantizer.QT_fp16
        return self._faiss.IndexHNSWSQ(dimensions, kind, M, self._faiss.METRIC_INNER_PRODUCT)


class Zvec(Engine):
    """zvec over int8 codes, read-only, with and without a look at the whole vectors.

    Its `query()` costs 200 µs more, for documents. Numbers of rows come from the path made for speed, and with the
    query object kept between calls, as a binding of one's own would do it.
    """

    name = "zvec int8"
    settings = tuple(Setting(ef, refine) for ef in EFS for refine in (False, True))

    def build(self, vectors: Matrix, threads: int) -> None:
        """Write `vectors` into a collection on disk, let it build its graph, and open it for reading."""
        zvec: Any = import_module("zvec")
        with contextlib.suppress(RuntimeError):  # a process may do so once
            zvec.init(log_level=zvec.LogLevel.ERROR, query_threads=1)
        self._zvec = zvec
        self._folder = tempfile.TemporaryDirectory()
        path = str(Path(self._folder.name) / "collection")
        collection = zvec.create_and_open(path, self._schema(vectors.shape[1]), zvec.CollectionOption())
        for start in range(0, len(vectors), 500):  # it takes no more than 1,024 at once
            rows = enumerate(vectors[start : start + 500], start)
            collection.insert([zvec.Doc(id=str(row), vectors={"v": vector}) for row, vector in rows])
        collection.optimize(zvec.OptimizeOption(concurrency=threads))
        collection.close()
        self._collection = zvec.open(path, zvec.CollectionOption(read_only=True))
        self._check(len(vectors))

    def _schema(self, dimensions: int) -> Any:
        zvec = self._zvec
        graph = zvec.HnswIndexParam(
            metric_type=zvec.MetricType.IP,
            m=M,
            ef_construction=EF_CONSTRUCTION,
            quantize_type=zvec.QuantizeType.INT8,
            use_contiguous_memory=True,
        )
        vector = zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, dimensions, index_param=graph)
        return zvec.CollectionSchema(name="bench", vectors=vector)

    def _check(self, count: int) -> None:
        """Internal numbers are those of the rows as long as nothing was deleted; make sure that they are."""
        if self._collection.resolve_internal_ids(list(range(count))) != [str(row) for row in range(count)]:
            raise RuntimeError("internal numbers are not the rows' order")

    def searcher(self, setting: Setting) -> Callable[[Vector], Labels]:
        """Return a search by a query object that is kept."""
        query = import_module("zvec._zvec.param")._SearchQuery()  # noqa: SLF001 (query() would cost 200 µs more)
        query.topk, query.field_name = K, "v"
        # 1.6 times k whole vectors are looked at, as many as our own index does; by default it would be ef.
        query.query_params = self._zvec.HnswQueryParam(
            ef=setting.ef, is_using_refiner=setting.refine, scale_factor=1.6 if setting.refine else 0.0
        )
        schema = self._collection.schema.vector("v")._get_object()  # noqa: SLF001
        native = self._collection._obj.QueryInternalIds  # noqa: SLF001

        def search(vector: Vector) -> Labels:
            query.set_vector(schema, vector)
            found: Labels = native(query, False)  # noqa: FBT003
            return found

        return search

    def close(self) -> None:
        """Close the collection and remove it from disk."""
        self._collection.close()
        self._folder.cleanup()


ENGINES: Final[tuple[type[Engine], ...]] = (
    Ours,
    Hnswlib,
    Usearch,
    FaissHNSW,
    FaissHNSWHalf,
    Zvec,
    OursExact,
    FaissFlat,
    Numpy,
)


def new_index(dimensions: int, **settings: Any) -> HNSWIndex:
    """Return an empty graph of ours with the parameters that all have."""
    return HNSWIndex(dimensions=dimensions, config=HNSWConfig(m=M, ef_construction=EF_CONSTRUCTION, **settings))


def new_hnswlib(dimensions: int, capacity: int) -> Any:
    """Return an empty graph of hnswlib with the parameters that all have."""
    index = import_module("hnswlib").Index("ip", dimensions)
    index.init_index(capacity, M=M, ef_construction=EF_CONSTRUCTION)
    index.set_num_threads(1)
    return index


def best_of(scores: Vector) -> Labels:
    """Return the places of the k best scores, best first."""
    k = min(K, len(scores))
    best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
    ranked: Labels = best[np.argsort(-scores[best])]
    return ranked
