"""JSON schemas (2020-12) of what the server takes and gives, as OpenAPI names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from llmspell_memory.server.settings import ServerConfig

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string", "minLength": 1, "pattern": "^[^\\u0000]+$"}
_MOMENT: Final[Schema] = {
    "type": "string",
    "format": "date-time",
    "description": "ISO 8601 with an offset, to the microsecond.",
}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TEXTS: Final[Schema] = {"type": "array", "items": TEXT}
_PLAIN: Final = "^[^\\u0000]*$"
_OBJECT: Final[Schema] = {"$ref": "#/components/schemas/Object"}
_MODE: Final[Schema] = {
    "enum": ["semantic", "keyword", "hybrid"],
    "description": "By meaning, by words, or by everything at once; hybrid unless given.",
}
_DUPLICATE: Final[Schema] = {
    "enum": ["keep", "skip"],
    "description": "What becomes of what its session says already: kept as well, the default, or skipped.",
}


def ref(name: str) -> Schema:
    """Return a reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(schema: Schema) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": schema}


def record(required: str = "", /, **members: Schema) -> Schema:
    """Return the schema of an object with these members and no others; null is as good as one that is not there.

    Args:
        required: names of those that must be there, with spaces between.
        members: schemas by name.
    """
    needed = required.split()
    told: Schema = {
        "type": "object",
        "properties": {name: one if name in needed else _maybe(one) for name, one in members.items()},
        "additionalProperties": False,
    }
    return told | ({"required": needed} if needed else {})


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def given(**members: Schema) -> Schema:
    """Return the schema of an answer's object, where every member is there."""
    return record(" ".join(members), **members)


_ENTRY: Final[dict[str, Schema]] = {
    "session_id": TEXT,
    "role": TEXT,
    "content": TEXT,
    "id": TEXT,
    "namespace": ref("Namespace"),
    "timestamp": _MOMENT,
    "ingestion_time": _MOMENT,
    "metadata": _OBJECT,
    "processed": _FLAG,
    "expires_at": _MOMENT,
    "embedding": ref("Vector"),
}
_POINT: Final[Schema] = given(
    **{name: _ENTRY[name] for name in ("id", "namespace", "session_id", "role", "timestamp")},
    text={"type": "string"},
    x={"type": "number"},
    y={"type": "number"},
)
_SPACE: Final[dict[str, Schema]] = {
    "provider": {"type": "string"},
    "model": _maybe({"type": "string"}),
    "dimensions": {"type": "integer", "minimum": 1},
    "metric": {"enum": ["cosine", "inner_product", "euclidean"]},
}
_HNSW: Final[dict[str, Schema]] = {
    "m": {"type": "integer", "minimum": 2, "maximum": 256},
    "ef_construction": {"type": "integer", "minimum": 1, "maximum": 100_000},
    "ef_search": {"type": "integer", "minimum": 1, "maximum": 100_000},
    "seed": {"type": "integer", "minimum": 0},
    "dtype": {"enum": ["float32", "float16"]},
}


def described(description: str, schema: Schema) -> Schema:
    """Return a schema that says what it is for, after whatever it says already."""
    return {**schema, "description": " ".join(one for one in (description, schema.get("description")) if one)}


_CONDITIONS: Final[dict[str, Schema]] = {
    "session_id": described("Only entries of this session.", TEXT),
    "role": described("Only entries with this role.", TEXT),
    "since": described("Only what happened then or later.", _MOMENT),
    "until": described("Only what happened before.", _MOMENT),
    "known_by": described("Only what was learned by then.", _MOMENT),
    "processed": described("Only entries marked processed, or only those not.", _FLAG),
    "metadata": described("Only entries that have these keys with equal values.", _OBJECT),
}
_BELOW: Final = described("Whether entries below the namespace count, too; true unless given.", _FLAG)
_EXPIRED: Final = "Only entries that have not expired (the default), only those that have, or either."
_VECTORS: Final = described("Whether entries come with their vectors; false unless given.", _FLAG)
_NEWEST: Final = described("The newest, in the order they happened; the oldest unless true.", _FLAG)


def schemas(settings: ServerConfig, dimensions: int) -> dict[str, Schema]:
    """Return all schemas by name, with the limits of a server and the width of its vectors."""
    return {
        "Json": {
            "description": "Any JSON without NUL in its texts, down to 200 levels.",
            "anyOf": [
                {"type": ["null", "boolean", "number"]},
                {"type": "string", "pattern": _PLAIN},
                listed(ref("Json")),
                _OBJECT,
            ],
        },
        "Object": {
            "type": "object",
            "propertyNames": {"pattern": _PLAIN},
            "additionalProperties": ref("Json"),
        },
        "Namespace": {**_TEXTS, "description": "Segments from the general to the particular; [] is the key's own."},
        "Vector": {
            "description": f"{dimensions} numbers, or base64 of as many little-endian float32.",
            "oneOf": [
                {"type": "array", "items": {"type": "number"}, "minItems": dimensions, "maxItems": dimensions},
                record("dtype data", dtype={"const": "float32"}, data={"type": "string"}),
            ],
        },
        "NewEntry": record("session_id role content", **_ENTRY),
        "Entry": record("id session_id role content namespace timestamp ingestion_time metadata processed", **_ENTRY),
        "Filter": {
            **record(
                **_CONDITIONS,
                namespace=described("Only entries of this namespace and below it.", ref("Namespace")),
                below=_BELOW,
                expired={"enum": [True, False, "any"], "description": _EXPIRED},
                ids=described("Only entries with one of these ids.", _TEXTS),
            ),
            "description": "Conditions, all of which an entry must meet.",
        },
        "Ranking": record(
            half_life_seconds={"type": "number", "exclusiveMinimum": 0},
            recency={"type": "number", "minimum": 0, "maximum": 1},
            near_duplicates={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            mmr={"type": "number", "minimum": 0, "maximum": 1},
            pool={"type": "integer", "minimum": 1, "maximum": settings.k},
            now=_MOMENT,
        ),
        "Hit": record(
            "entry score",
            entry=ref("Entry"),
            score={"type": "number"},
            parts={"type": "object", "additionalProperties": ref("Part")},
            before=listed(ref("Entry")),
            after=listed(ref("Entry")),
        ),
        "Part": given(score={"type": "number"}, share={"type": "number"}, rank=_maybe(_COUNT)),
        "Query": record(
            text={"type": "string"},
            roles=_TEXTS,
            dates=listed({"type": "array", "items": _COUNT, "minItems": 3, "maxItems": 3}),
            vector=ref("Vector"),
            mode=_MODE,
            around={**_COUNT, "maximum": settings.k},
            parts=_FLAG,
            exact=_FLAG,
        ),
        "Session": given(
            session_id=TEXT,
            namespace=ref("Namespace"),
            entries=_COUNT,
            unprocessed=_COUNT,
            first=_MOMENT,
            last=_MOMENT,
        ),
        "Identity": given(namespace=ref("Namespace"), id=TEXT),
        "Space": given(**_SPACE),
        "Hnsw": record(**_HNSW),
        "Stats": {"type": "object", "required": ["entries", "sessions", "space", "index"]},
        "Problem": {
            **record("type title status detail"),
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
            },
            "additionalProperties": True,
            "description": "RFC 9457. `type` names an error of the library, as in urn:llmspell-memory:InputError.",
        },
    }


def k_of(settings: ServerConfig) -> Schema:
    """Return the schema of how many hits are asked for."""
    return {**_COUNT, "maximum": settings.k}


def entries_of(settings: ServerConfig) -> Schema:
    """Return the schema of entries to store."""
    return {**listed(ref("NewEntry")), "maxItems": settings.batch}


def bodies(settings: ServerConfig) -> dict[str, Schema]:
    """Return the schemas of requests by the names of their operations."""
    k, where = k_of(settings), ref("Filter")
    sought = {"query": described("What is looked for, as a text; the server embeds it.", TEXT), "vector": ref("Vector")}
    around = described("How many turns before and after each hit come with it; none unless given.", k)
    parts = described("Whether to tell what each score is made of.", _FLAG)
    either = {"oneOf": [{"required": ["query"]}, {"required": ["vector"]}]}
    asked: dict[str, Schema] = {
        **sought,
        "k": described("How many hits at most.", k),
        "where": where,
        "mode": _MODE,
        "ranking": ref("Ranking"),
    }
    conditions = record(where=where)
    expiring = record("expires_at", where=where, expires_at=_maybe(_MOMENT))
    return {
        "addEntries": record("entries", entries=entries_of(settings), on_duplicate=_DUPLICATE),
        "search": record(**asked, around=around, parts=parts, vectors=_VECTORS) | either,
        "context": record(
            "budget_tokens",
            **asked,
            budget_tokens=described("The most tokens that the text may count, a token for each byte.", _COUNT),
        )
        | either,
        "markProcessed": record("ids", ids=_TEXTS, namespace=ref("Namespace")),
        "setExpiry": expiring,
        "deleteEntries": record(where=where, everything=_FLAG),
        "forgetEntries": record(where=where, everything=_FLAG),
        "backendAdd": record("entries", entries=entries_of(settings), space=ref("Space"), skip_equal=_FLAG),
        "backendScan": record(where=where, limit=_COUNT, newest=_FLAG),
        "backendSearch": record("vector k", vector=ref("Vector"), k=k, where=where, exact=_FLAG, space=ref("Space")),
        "backendRetrieve": record("query k", query=ref("Query"), k=k, where=where, space=ref("Space")),
        "backendNamedRoles": record("words", words=_TEXTS, where=where),
        "backendChanges": record(
            "since", since={**_COUNT, "maximum": 2**63 - 1}, limit={**_COUNT, "minimum": 1, "maximum": settings.batch}
        ),
        "backendReadNote": record("name", name=TEXT),
        "backendWriteNote": record("name", name=TEXT, text={"type": "string", "pattern": _PLAIN}),
        "backendMarkProcessed": conditions,
        "backendSetExpiry": expiring,
        "backendDelete": conditions,
        "backendForget": conditions,
        "backendCount": conditions,
        "backendSessions": conditions,
        "backendConfigure": record(hnsw=_maybe(ref("Hnsw")), rebuild=_FLAG),
        "backendStats": record(),
        "measureCurve": record(
            target_recall={"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            queries={"type": "integer", "minimum": 1, "maximum": 1_000},
        ),
        "setEfSearch": record("ef_search", ef_search=_HNSW["ef_search"]),
    }


def answers() -> dict[str, Schema]:
    """Return the schemas of answers by the names of their operations."""
    ids, deleted, marked = given(ids=_TEXTS), given(deleted=_COUNT), given(marked=_COUNT)
    entries, hits, sessions = (
        given(entries=listed(ref("Entry"))),
        given(hits=listed(ref("Hit"))),
        given(sessions=listed(ref("Session"))),
    )
    imported = ("read", "new", "replaced", "unchanged", "skipped", "embedded", "with_vectors")
    return {
        "addEntries": ids,
        "listEntries": entries,
        "getEntry": ref("Entry"),
        "deleteEntry": deleted,
        "search": hits,
        "context": given(text={"type": "string"}, tokens=_COUNT, sources=listed(ref("Identity"))),
        "listSessions": sessions,
        "getSession": entries,
        "markProcessed": marked,
        "setExpiry": given(changed=_COUNT),
        "deleteEntries": deleted,
        "forgetEntries": given(
            entries=_COUNT, sessions=_COUNT, texts=_COUNT, began=_MOMENT, finished=_MOMENT, ids=listed(ref("Identity"))
        ),
        "stats": ref("Stats"),
        "importEntries": given(**dict.fromkeys(imported, _COUNT)),
        "backendAbout": given(space=ref("Space"), hnsw=_maybe(ref("Hnsw"))),
        "backendAdd": ids,
        "backendSearch": hits,
        "backendRetrieve": hits,
        "backendNamedRoles": given(roles=_TEXTS),
        "backendChanges": given(
            reached=_COUNT, put=listed(ref("Entry")), gone=listed(ref("Identity")), forgotten=_FLAG
        ),
        "backendReadNote": given(text=_maybe({"type": "string"})),
        "backendWriteNote": record(),
        "backendMarkProcessed": marked,
        "backendSetExpiry": given(changed=_COUNT),
        "backendDelete": deleted,
        "backendForget": given(
            erased=listed(given(namespace=ref("Namespace"), id=TEXT, session_id=TEXT, content=TEXT))
        ),
        "backendCount": given(count=_COUNT),
        "backendSessions": sessions,
        "backendConfigure": record(),
        "backendStats": ref("Stats"),
        "caller": given(writes=_FLAG, whole=_FLAG, key=TEXT, limits={"type": "object"}),
        "map": given(points=listed(_POINT), entries=_COUNT, kept={"type": "number"}),
        "measureCurve": {"type": "object", "required": ["points", "chosen", "hnsw", "verdict"]},
        "setEfSearch": given(hnsw=_maybe(ref("Hnsw"))),
        "health": given(status={"const": "alive"}),
        "ready": given(status={"const": "ready"}),
    }


CONDITIONS: Final[dict[str, Schema]] = {
    **_CONDITIONS,
    "namespace": described("Only entries of this namespace and below it: its segments, the general one first.", _TEXTS),
    "below": _BELOW,
    "expired": {"enum": ["true", "false", "any"], "description": _EXPIRED},
    "id": described("Only entries with one of these ids.", _TEXTS),
}
"""Parameters of a query that make a filter; `namespace` once for each segment, `id` once for each."""

PARAMETERS: Final[dict[str, Schema]] = {
    "newest": _NEWEST,
    "vectors": _VECTORS,
    "reembed": described("Whether to drop the vectors in the file and embed its texts anew.", _FLAG),
    "on_duplicate": _DUPLICATE,
}
"""Further parameters of queries."""
