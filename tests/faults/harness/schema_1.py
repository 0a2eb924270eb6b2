"""Stores as the first release made them: the tables of schema 1, written by SQLite alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from tests.faults.harness.history import LONG_AGO, SERVICES, State, made, vector_of

if TYPE_CHECKING:
    from pathlib import Path

TABLES = """
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, space INTEGER);
CREATE TABLE spaces (id INTEGER PRIMARY KEY, provider TEXT NOT NULL, model TEXT, dimensions INTEGER NOT NULL,
 metric TEXT NOT NULL);
CREATE TABLE entries (label INTEGER PRIMARY KEY AUTOINCREMENT, namespace BLOB NOT NULL, id TEXT NOT NULL,
 session_id TEXT NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, timestamp INTEGER NOT NULL,
 ingestion_time INTEGER NOT NULL, metadata TEXT NOT NULL, processed INTEGER NOT NULL, UNIQUE (id, namespace));
CREATE INDEX entries_by_time ON entries (timestamp, id);
CREATE INDEX entries_by_session ON entries (session_id, timestamp);
CREATE INDEX entries_by_namespace ON entries (namespace, timestamp);
CREATE INDEX entries_unprocessed ON entries (timestamp) WHERE processed = 0;
CREATE TABLE tombstones (seq INTEGER PRIMARY KEY, label INTEGER NOT NULL);
CREATE TABLE vectors_1 (label INTEGER PRIMARY KEY, seq INTEGER NOT NULL, vector BLOB NOT NULL);
CREATE INDEX vectors_1_by_seq ON vectors_1 (seq);
PRAGMA user_version = 1;
PRAGMA application_id = 0x4C4D454D;
COMMIT;
"""


def make(path: Path, state: State) -> None:
    """Make a store of schema 1 with these rows."""
    space = SERVICES[0].space
    moment = int(LONG_AGO.timestamp()) * 1_000_000
    with closing(sqlite3.connect(path)) as db:
        db.executescript(TABLES)
        with db:
            db.execute("INSERT INTO state VALUES (1, ?, 1)", (len(state),))
            values = (1, space.provider, space.model, space.dimensions, space.metric)
            db.execute("INSERT INTO spaces VALUES (?, ?, ?, ?, ?)", values)
            for label, (name, row) in enumerate(state.items(), start=1):
                entry = made(name, row)
                vector = vector_of(name, row.version, SERVICES[0])
                metadata = f'{{"version":{row.version}}}'
                told = (entry.session_id, entry.role, entry.content, moment, moment, metadata, int(row.processed))
                db.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (label, b"", name, *told))
                db.execute("INSERT INTO vectors_1 VALUES (?, ?, ?)", (label, label, vector.tobytes()))
