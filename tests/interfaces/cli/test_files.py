"""`import` and `export`: round trips through real files, refusals, and what is left behind."""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from typer.testing import Result

    Invoke = Callable[..., Result]
    Run = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "conversation.jsonl"
CHATS = ROOT / "tests" / "unit" / "operations" / "data"


def reports(result: Any) -> list[dict[str, Any]]:
    code = result.returncode if hasattr(result, "returncode") else result.exit_code
    assert code == 0, result.stderr
    files: list[dict[str, Any]] = json.loads(result.stdout)["files"]
    return files


def test_the_example_twice(invoke: Invoke) -> None:
    """The project's conversation is imported whole, and a second time not at all."""
    (first,) = reports(invoke("import", EXAMPLE, "--json", new=True))
    assert (first["read"], first["new"], first["embedded"], first["format"]) == (377, 377, 377, "jsonl")
    (second,) = reports(invoke("import", EXAMPLE, "--json"))
    assert (second["read"], second["unchanged"], second["new"], second["embedded"]) == (377, 377, 0, 0)
    shown = invoke("import", EXAMPLE).stdout
    assert "377" in shown
    assert "jsonl" in shown


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_a_round_trip(filled: Invoke, run: Run, tmp_path: Path, name: str) -> None:
    """What is exported and imported into a new store is exported again as the same bytes, without a provider."""
    path, other = tmp_path / name, tmp_path / "other.db"
    assert "exported 4 entries" in filled("export", path).stdout
    (report,) = reports(run("--db", other, "import", path, "--json"))
    assert (report["new"], report["with_vectors"], report["embedded"]) == (4, 4, 0)
    again = run("--db", other, "export").stdout
    data = path.read_bytes()
    assert again.encode() == (gzip.decompress(data) if name.endswith(".gz") else data)
    assert run("--db", other, "stats", "--json").stdout.count('"hashing"') == 1


def test_through_a_pipe(filled: Invoke, run: Run, tmp_path: Path) -> None:
    """An export on stdout is an import from /dev/stdin."""
    text = filled("export").stdout
    (report,) = reports(run("--db", tmp_path / "o.db", "import", "/dev/stdin", "--json", stdin=text))
    assert report["new"] == 4


def test_only_what_matches(filled: Invoke, tmp_path: Path) -> None:
    """An export takes the same conditions as a search, and can leave the vectors out."""
    path = tmp_path / "dogs.jsonl"
    result = filled("export", path, "--session", "dogs", "--no-vectors", "--json")
    assert json.loads(result.stdout) == {"file": str(path), "entries": 2, "vectors": False}
    header, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert header == {"llmspell_memory": 1}
    assert [line["id"] for line in lines] == ["d1", "d2"]
    assert all("embedding" not in line for line in lines)


def test_a_file_is_replaced_only_by_force(filled: Invoke, tmp_path: Path, db: Path) -> None:
    """An existing file is kept unless --force is given, the store itself always; no half a file is left."""
    path = tmp_path / "out.jsonl"
    path.write_text("precious", encoding="utf-8")
    assert filled("export", path).exit_code == 1
    assert path.read_text(encoding="utf-8") == "precious"
    assert filled("export", path, "--force").exit_code == 0
    assert path.read_text(encoding="utf-8").startswith('{"llmspell_memory":1')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "the store itself never is" in filled("export", db, "--force").stderr
    assert filled("export", tmp_path / "absent" / "out.jsonl").exit_code == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["memory.db", "out.jsonl"]


def test_vectors_of_another_space(filled: Invoke, run: Run, tmp_path: Path) -> None:
    """Vectors of another space are refused with the way out, which works."""
    path, other = tmp_path / "out.jsonl", tmp_path / "other.db"
    filled("export", path)
    assert run("--db", other, "--provider", "hashing", "add", "x", "--session", "s", "--role", "u").returncode == 0
    refused = run("--db", other, "import", path)
    assert refused.returncode == 1
    assert "--reembed" in refused.stderr
    (report,) = reports(run("--db", other, "import", path, "--reembed", "--json"))
    assert (report["new"], report["embedded"], report["with_vectors"]) == (4, 4, 0)


def test_options_that_contradict_the_store(filled: Invoke, db: Path, run: Run) -> None:
    """A provider other than the recorded one is refused before anything is embedded."""
    for options in (("--provider", "local"), ("--dimensions", "32"), ("--model", "x")):
        result = run("--db", db, *options, "search", "x")
        assert result.returncode == 1
        assert options[0] in result.stderr
    assert filled("search", "x").exit_code == 0


def test_below_a_namespace(invoke: Invoke) -> None:
    """--namespace puts every entry below a namespace, beside the same ones elsewhere."""
    for namespace in ((), ("--namespace", "acme", "--namespace", "alice")):
        (report,) = reports(invoke("import", EXAMPLE, *namespace, "--json", new=True))
        assert report["new"] == 377
    figures = json.loads(invoke("sessions", "--namespace", "acme", "--json").stdout)["sessions"]
    assert {tuple(one["namespace"]) for one in figures} == {("acme", "alice")}


@pytest.mark.parametrize(("name", "count"), [("chatgpt", 7), ("claude", 3)])
def test_chat_exports(invoke: Invoke, name: str, count: int) -> None:
    """An export of ChatGPT or Claude is recognised, imported once, and what is left out of it is said."""
    path = CHATS / f"{name}.json"
    (first,) = reports(invoke("import", path, "--json", new=True))
    assert (first["format"], first["new"]) == (name, count)
    assert sum(first["left_out"].values()) > 0
    second = invoke("import", path, "--format", name)
    assert "left out of" in second.stdout
    (third,) = reports(invoke("import", path, "--json"))
    assert third["unchanged"] == count


def test_several_files(invoke: Invoke, tmp_path: Path) -> None:
    """Several files of several formats are imported by one command."""
    files = [CHATS / "chatgpt.json", CHATS / "claude.json", EXAMPLE]
    found = reports(invoke("import", *files, "--json", new=True))
    assert [one["format"] for one in found] == ["chatgpt", "claude", "jsonl"]
    assert not (tmp_path / "memory.db-wal").exists()


def test_a_broken_line(invoke: Invoke, tmp_path: Path) -> None:
    """A broken line is named with its number, with how many entries were stored before it; mended, the rest follows."""
    path = tmp_path / "broken.jsonl"
    lines = [json.dumps({"session_id": "s", "role": "u", "content": f"turn {n}", "id": str(n)}) for n in range(300)]
    path.write_text("\n".join([*lines, "{"]), encoding="utf-8")
    result = invoke("import", path, new=True)
    assert result.exit_code == 1
    assert "broken.jsonl, line 301" in result.stderr
    assert "256 entries were stored" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    path.write_text("\n".join(lines), encoding="utf-8")
    (report,) = reports(invoke("import", path, "--json"))
    assert report["read"] == 300
    assert report["new"] == 44
