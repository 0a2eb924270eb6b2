"""Finding out what a file is, and reading what ChatGPT and Claude export."""

from __future__ import annotations

import gzip
import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory import ConfigError, EpisodicEntry, InputError
from llmspell_memory.operations import Format, detect, open_source
from llmspell_memory.operations.files.chats import epoch

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parent / "data"
CHATGPT = DATA / "chatgpt.json"
CLAUDE = DATA / "claude.json"


def read(path: Path) -> tuple[dict[str, EpisodicEntry], dict[str, int]]:
    with open_source(path) as source:
        entries = {entry.id: entry for entry in source.entries}
        return entries, dict(source.left_out)


def changed(path: Path, to: Path, change: Callable[[list[dict[str, Any]]], object]) -> Path:
    """Write a copy of an export with something in it changed."""
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    to.write_text(json.dumps(document), encoding="utf-8")
    return to


@pytest.mark.parametrize(("path", "expected"), [(CHATGPT, "chatgpt"), (CLAUDE, "claude")])
def test_exports_are_known_by_their_content(tmp_path: Path, path: Path, expected: Format) -> None:
    """An export is recognised whatever its name is, gzipped too."""
    assert detect(path) == expected
    other = tmp_path / "memory.jsonl"
    other.write_bytes(gzip.compress(path.read_bytes()))
    assert detect(other) == expected


def test_lines_are_known_by_their_content(tmp_path: Path) -> None:
    """What does not begin with a list is JSONL, an empty file as well."""
    path = tmp_path / "conversations.json"
    path.write_text('{"session_id": "s", "role": "user", "content": "x"}\n', encoding="utf-8")
    assert detect(path) == "jsonl"
    path.write_text("", encoding="utf-8")
    assert read(path) == ({}, {})


def test_the_visible_branch_of_a_chatgpt_conversation() -> None:
    """Of the tree, the branch that ends in the current node is read; what was regenerated or is hidden is not."""
    entries, _ = read(CHATGPT)
    session = [entry for entry in entries.values() if entry.session_id == "c-bread"]
    assert [(entry.id, entry.role) for entry in session] == [
        ("u1", "user"),
        ("a2", "assistant"),
        ("u2", "user"),
        ("c1", "assistant"),
        ("t1", "tool"),
        ("a3", "assistant"),
    ]
    assert [entry.timestamp for entry in session] == sorted(entry.timestamp for entry in session)
    assert entries["u1"].timestamp == datetime(2025, 1, 7, 0, 23, 32, 250_000, tzinfo=UTC)


def test_what_a_chatgpt_message_carries() -> None:
    """Title, model, tool and attachments stand in the metadata; parts that are no text are counted there."""
    entries, _ = read(CHATGPT)
    about = {"source": "chatgpt", "title": "Bread that keeps"}
    assert entries["a2"].metadata == about | {"model": "gpt-4o"}
    assert entries["u2"].content == "Is this mould?"
    assert entries["u2"].metadata == about | {"attachments": ["loaf.jpg"], "not_text": {"image_asset_pointer": 1}}
    assert entries["t1"].metadata == about | {"tool": "python"}
    assert entries["a3"].content == "Yes, throw it away."


def test_characters_no_store_can_keep() -> None:
    """NUL in a chat export becomes U+FFFD instead of stopping the import."""
    entries, _ = read(CHATGPT)
    assert entries["t1"].content == "4\N{REPLACEMENT CHARACTER}"


def test_a_copied_message_is_kept_twice() -> None:
    """A message that a later conversation begins with keeps its id in the older one, and gets another in the later."""
    entries, _ = read(CHATGPT)
    assert entries["u1"].session_id == "c-bread"
    assert entries["u1/c-copy"].session_id == "c-copy"


def test_what_is_left_out_is_counted() -> None:
    """Messages that are no entries are counted by the reason."""
    assert read(CHATGPT)[1] == {
        "system messages": 1,
        "hidden messages": 1,
        "messages of image_asset_pointer only": 1,
        "messages of thoughts only": 1,
    }
    assert read(CLAUDE)[1] == {"messages of files only": 1}


def test_a_tree_without_a_current_node(tmp_path: Path) -> None:
    """Where the export does not say which branch was seen, the one with the latest message is read."""
    path = changed(CHATGPT, tmp_path / "c.json", lambda document: document[1].pop("current_node"))
    entries, _ = read(path)
    assert "a3" in entries
    assert "a1" not in entries


def test_claude_messages() -> None:
    """Senders become roles, pasted text is part of the content, and blocks that are no text are counted."""
    entries, _ = read(CLAUDE)
    assert [(entry.id, entry.session_id, entry.role) for entry in entries.values()] == [
        ("m1", "9c2b", "user"),
        ("m2", "9c2b", "assistant"),
        ("m4", "9c2b", "user"),
    ]
    about = {"source": "claude", "title": "Oven quotes"}
    assert entries["m1"].content == "Which quote is cheaper?\n\n[quotes.txt]\nBrennard: 7,900. Hask: 6,400."
    assert entries["m1"].metadata == about | {"attachments": ["quotes.txt", "oven.png"], "not_text": {"files": 1}}
    assert entries["m1"].timestamp == datetime(2025, 3, 1, 9, 0, 10, 123_456, tzinfo=UTC)
    assert entries["m2"].content == "Hask, by 1,500."
    assert entries["m2"].metadata == about | {"not_text": {"thinking": 1, "tool_use": 1, "tool_result": 1}}
    assert entries["m4"].content == "An older message without blocks"


def _loop(document: list[dict[str, Any]]) -> None:
    document[1]["mapping"]["r"]["parent"] = "a3"


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (CHATGPT, _loop, "conversation 2: message .* its own ancestor"),
        (CHATGPT, lambda document: document.append(7), "conversation 3 is not an object"),
        (
            CHATGPT,
            lambda document: [document[0].pop("id"), document[0].pop("conversation_id")],
            "conversation 1 has no id",
        ),
        (CHATGPT, lambda document: document[1].update(mapping=[]), "conversation 2: mapping must be a dict"),
        (CHATGPT, lambda document: document[0].update(create_time="noon"), "conversation 1: .*seconds since 1970"),
        (CHATGPT, lambda document: document[0].update(create_time=1e300), "conversation 1: .*seconds since 1970"),
        (CLAUDE, lambda document: document[1].pop("uuid"), "conversation 2 has no uuid"),
        (CLAUDE, lambda document: document[0]["chat_messages"][1].pop("sender"), "message m2: role must be a str"),
        (CLAUDE, lambda document: document[0]["chat_messages"][0].update(created_at="noon"), "message m1: created_at"),
        (CLAUDE, lambda document: document[0]["chat_messages"].append(7), "chat_messages must hold objects"),
    ],
)
def test_a_broken_export_says_where(
    tmp_path: Path, path: Path, change: Callable[[list[dict[str, Any]]], object], message: str
) -> None:
    """What cannot be read in an export is an InputError that names conversation and message."""
    with pytest.raises(InputError, match=message):
        read(changed(path, tmp_path / "broken.json", change))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2", "not JSON"),
        (b"[]", "no export of ChatGPT or Claude"),
        (b'[{"session_id": "s", "role": "user", "content": "x"}]', "one object a line"),
        (b"\x1f\x8b\x08\x00truncated", "cannot be read"),
    ],
)
def test_what_is_in_no_format(tmp_path: Path, content: bytes, message: str) -> None:
    """A file in none of the formats is an InputError that says what it would have to be."""
    path = tmp_path / "what"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(path)


def test_a_zip_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    """The archive that the services send says what is to be taken out of it."""
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(CLAUDE, "conversations.json")
    with pytest.raises(InputError, match="unpack it and give the conversations"):
        detect(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is not there, or is a folder, is an InputError with its path."""
    with pytest.raises(InputError, match=r"absent\.jsonl cannot be read: No such file"):
        detect(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        detect(tmp_path)


def test_a_given_format_is_believed(tmp_path: Path) -> None:
    """A format that is given is not looked for, and an unknown one refused."""
    path = tmp_path / "c.json"
    path.write_text("[]", encoding="utf-8")
    with open_source(path, format="chatgpt") as source:
        assert list(source.entries) == []
    with pytest.raises(InputError, match="must be a JSON object"), open_source(path, format="jsonl"):
        pass
    wrong: Any = "csv"
    with pytest.raises(ConfigError, match="jsonl, chatgpt, claude"), open_source(path, format=wrong):
        pass


@pytest.mark.parametrize("seconds", [-1.5, -2_208_988_800, 0, 0.000_001, 1_700_000_000.123_456])
def test_seconds_may_be_before_1970(seconds: float) -> None:
    """Moments before 1970 are read on every system, and each to the microsecond."""
    assert epoch(seconds, where="here") == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert epoch(-1.5, where="here") == datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC)
