"""What every command does on a store, for people and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from llmspell_memory.backends import SQLiteBackend
from llmspell_memory.cli.app import app
from llmspell_memory.types import HNSWConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Invoke = Callable[..., Result]

COMMANDS = sorted(command.name for command in app.registered_commands if command.name)


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def found(result: Result) -> list[str]:
    return [hit["entry"]["content"] for hit in document(result)["hits"]]


def test_the_commands_there_are() -> None:
    """The list of commands is the documented one."""
    listed = (
        "add advise backup chat check context delete demo doctor export import keys "
        "mcp migrate recent reembed repair rollback rollout search serve sessions show stats sweep tune"
    )
    assert listed.split() == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself(invoke: Invoke, command: str, flag: str) -> None:
    """Every command has a help text, and every option in it a word about what it does."""
    result = invoke(command, flag)
    assert result.exit_code == 0
    assert len(result.stdout.split("Options:")[0].split()) > 15
    for registered in app.registered_commands:
        assert registered.help or (registered.callback is not None and registered.callback.__doc__)
    options = [line for line in result.stdout.split("Options:")[1].splitlines() if line.startswith("  -")]
    assert all(len(line.split()) > 1 for line in options)


def test_without_arguments_the_help_is_shown() -> None:
    """The bare command lists what there is."""
    assert "Commands:" in CliRunner().invoke(app, []).output


def test_the_version(invoke: Invoke) -> None:
    """--version needs no command."""
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("llmspell-memory 0.")


class TestAdd:
    def test_prints_the_id(self, invoke: Invoke) -> None:
        """An added entry's id is all that is printed, so that a script can take it."""
        added = invoke("add", "hello", "--session", "s", "--role", "user", new=True)
        assert added.exit_code == 0
        entry = document(invoke("show", added.stdout.strip(), "--json"))["entry"]
        assert (entry["content"], entry["session_id"], entry["role"]) == ("hello", "s", "user")
        assert len(entry["embedding"]) == 64

    @pytest.mark.parametrize("arguments", [("-",), ()])
    def test_reads_stdin(self, invoke: Invoke, arguments: tuple[str, ...]) -> None:
        """Without a text, or with -, the text comes from stdin, without the end of its last line."""
        added = invoke("add", *arguments, "--session", "s", "--role", "u", "--json", stdin="two\nlines\r\n", new=True)
        shown = document(invoke("show", document(added)["id"], "--json"))
        assert shown["entry"]["content"] == "two\nlines"

    def test_a_known_id_is_replaced(self, filled: Invoke) -> None:
        """Adding with an id that is there replaces the entry."""
        filled("add", "My dog is called Bob.", "--session", "dogs", "--role", "user", "--id", "d2")
        assert document(filled("show", "d2", "--json"))["entry"]["content"] == "My dog is called Bob."
        assert document(filled("stats", "--json"))["entries"] == 4

    def test_builds_no_index(self, filled: Invoke, db: Path) -> None:
        """An entry is added to an existing store without naming the provider again."""
        assert filled("add", "x", "--session", "s", "--role", "u").exit_code == 0
        assert db.exists()


class TestRecall:
    def test_a_context_is_within_its_budget(self, filled: Invoke) -> None:
        """What answers comes under its session; whole turns only, or nothing."""
        told = document(filled("context", "what is my dog called?", "--session", "dogs", "--json"))
        assert told["sources"] == [[[], "d1"], [[], "d2"]]
        assert "## dogs" in told["text"]
        less = document(filled("context", "what is my dog called?", "--budget", "70", "--json"))
        assert 0 < less["tokens"] <= 70
        assert len(less["sources"]) == 1
        assert document(filled("context", "dog", "--budget", "3", "--json")) == {"text": "", "tokens": 0, "sources": []}
        assert "user: My dog is called Ada." in filled("context", "dog").stdout

    def test_the_newest_are_shown(self, filled: Invoke) -> None:
        """The last of them comes last, whatever is found or not."""
        told = document(filled("recent", "-n", "2", "--until", "2025-12-01", "--json"))
        assert [entry["id"] for entry in told["entries"]] == ["d2", "b1"]
        assert "sourdough" in filled("recent", "--session", "bread").stdout


class TestSearch:
    def test_finds_what_is_nearest(self, filled: Invoke) -> None:
        """The best hit comes first, and -k says how many there are."""
        assert found(filled("search", "what is my dog called?", "-k", "2", "--json"))[0] == "My dog is called Ada."
        assert len(found(filled("search", "dog", "-k", "2", "--json"))) == 2
        assert found(filled("search", "dog", "-k", "0", "--json")) == []

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            (["--session", "dogs"], {"d1", "d2"}),
            (["--role", "assistant"], {"d2"}),
            (["--since", "2025-02-01", "--until", "2025-03-01"], {"b1"}),
            (["--until", "2025-01-05T11:01:00+01:00"], {"d1"}),
            (["--metadata", "topic=dog"], {"d1"}),
            (["--metadata", 'topic="dog"', "--metadata", "n=1.0"], {"d1"}),
            (["--metadata", "n=true"], set()),
            (["--metadata", "topic=NaN"], set()),
            (["--processed"], set()),
            (["--unprocessed", "--session", "bread"], {"b1"}),
            (["--namespace", "acme"], {"d1"}),
            (["--namespace", "acme", "--namespace", "bob"], set()),
        ],
    )
    def test_conditions(self, filled: Invoke, conditions: list[str], expected: set[str]) -> None:
        """Only entries that meet every condition are found."""
        hits = document(filled("search", "dog", "--json", *conditions))["hits"]
        assert {hit["entry"]["id"] for hit in hits} == expected

    def test_modes(self, filled: Invoke) -> None:
        """By words alone, only what says them is found; scores are those of the mode."""
        hits = document(filled("search", "sourdough", "--mode", "keyword", "--json"))["hits"]
        assert [hit["entry"]["id"] for hit in hits] == ["b1"]
        semantic = document(filled("search", "My dog is called Ada.", "--mode", "semantic", "-k", "1", "--json"))[
            "hits"
        ]
        assert round(semantic[0]["score"], 3) == 1.0

    def test_what_stands_around_and_what_scores_are_made_of(self, filled: Invoke) -> None:
        """--around brings the turns beside a hit, --parts the shares that add up to its score; to people, too."""
        hit = document(filled("search", "called", "-k", "1", "--json", "--around", "1", "--parts"))["hits"][0]
        assert (hit["entry"]["id"], hit["before"], [one["id"] for one in hit["after"]]) == ("d1", [], ["d2"])
        assert hit["parts"].keys() == {"semantic", "keyword", "neighbours", "session", "role", "time", "worth"}
        assert sum(part["share"] for part in hit["parts"].values()) == pytest.approx(hit["score"], abs=1e-4)
        shown = filled("search", "called", "-k", "1", "--around", "1", "--parts").stdout
        assert "assistant:" in shown
        assert "(#1)" in shown

    def test_a_store_remembers_whose_stems_make_words_alike(self, invoke: Invoke) -> None:
        """--language is recorded; one without a stemmer is refused."""
        houses = ("add", "Die Häuser am Fluss", "--session", "s", "--role", "user")
        assert invoke("--language", "german", *houses, new=True).exit_code == 0
        assert found(invoke("search", "Haus", "--mode", "keyword", "--json")) == ["Die Häuser am Fluss"]
        assert found(invoke("--language", "none", "search", "Haus", "--mode", "keyword", "--json")) == []
        assert found(invoke("search", "Haus", "--mode", "keyword", "--json")) == []
        refused = invoke("--language", "klingon", "search", "Haus")
        assert refused.exit_code == 1
        assert "german" in refused.stderr

    def test_both_views_find_the_same(self, filled: Invoke) -> None:
        """The exact and the HNSW view of so few entries give the same hits."""
        assert filled("search", "dog", "--index", "hnsw").stdout == filled("search", "dog", "--index", "exact").stdout

    def test_for_people(self, filled: Invoke) -> None:
        """A table holds score, session, time in UTC, role, content and id; nothing found is said."""
        shown = filled("search", "dog", "-k", "1").stdout
        for part in ("when (UTC)", "dogs", "2025-01-05 10:0", "dog", "d"):
            assert part in shown
        assert "nothing found" in filled("search", "dog", "--session", "none").stdout


class TestSessions:
    def test_counts_what_matches(self, filled: Invoke) -> None:
        """A session's line counts entries that meet the conditions, latest activity first."""
        lines = document(filled("sessions", "--json"))["sessions"]
        assert [(line["session_id"], line["entries"]) for line in lines] == [("lease", 1), ("bread", 1), ("dogs", 2)]
        (dogs,) = document(filled("sessions", "--role", "assistant", "--json"))["sessions"]
        assert (dogs["entries"], dogs["first"]) == (1, "2025-01-05T10:01:00+00:00")

    def test_for_people(self, filled: Invoke) -> None:
        """A table with the namespace where there is one."""
        assert "acme / alice" in filled("sessions").stdout
        assert "namespace" not in filled("sessions", "--role", "assistant").stdout
        assert "no session" in filled("sessions", "--role", "nobody").stdout


class TestShow:
    def test_an_entry(self, filled: Invoke) -> None:
        """An entry is shown with every field and its content."""
        shown = filled("show", "b1").stdout
        for part in (
            "b1",
            "bread",
            "user",
            "2025-02-05T10:00:00+00:00",
            "64 numbers",
            "The sourdough needs another hour.",
        ):
            assert part in shown

    def test_a_session(self, filled: Invoke) -> None:
        """A session is shown as a transcript in the order it happened."""
        shown = filled("show", "dogs").stdout
        assert shown.index("called Ada") < shown.index("A good name")
        entries = document(filled("show", "dogs", "--json"))["entries"]
        assert [entry["id"] for entry in entries] == ["d1", "d2"]

    def test_one_id_in_two_namespaces(self, filled: Invoke) -> None:
        """Where two namespaces have the id, the namespace is to be said."""
        assert "--namespace" in filled("show", "d1").stderr
        entry = document(filled("show", "d1", "--namespace", "acme", "--json"))["entry"]
        assert entry["content"] == "The lease ends in September."

    def test_something_unknown(self, filled: Invoke) -> None:
        """What is neither an entry nor a session is an error."""
        result = filled("show", "nothing")
        assert result.exit_code == 1
        assert "no entry and no session is called 'nothing'" in result.stderr


class TestStats:
    def test_figures(self, filled: Invoke) -> None:
        """Counts, space and bytes; an index only where one is asked for."""
        figures = document(filled("stats", "--json"))
        assert (figures["entries"], figures["sessions"], figures["unprocessed"]) == (4, 3, 4)
        assert figures["space"] == {"provider": "hashing", "model": None, "dimensions": 64, "metric": "cosine"}
        assert figures["disk_bytes"] > 0
        assert figures["index"] is None

    @pytest.mark.parametrize("kind", ["exact", "hnsw"])
    def test_an_index_is_built_on_request(self, filled: Invoke, kind: str) -> None:
        """--index builds the index and says what it costs."""
        index = document(filled("stats", "--index", kind, "--json"))["index"]
        assert (index["kind"], index["size"]) == (kind, 4)
        assert index["memory_bytes"] > 0
        assert "built in" in filled("stats", "--index", kind).stdout

    def test_sizes(self, filled: Invoke) -> None:
        """Namespaces and sessions are counted, and the largest named."""
        figures = document(filled("stats", "--json"))
        assert (figures["namespaces"], figures["seq"], len(figures["id"])) == (2, 4, 32)
        assert figures["largest_namespaces"] == [
            {"namespace": [], "entries": 3},
            {"namespace": ["acme", "alice"], "entries": 1},
        ]
        assert figures["largest_sessions"][0] == {"namespace": [], "session_id": "dogs", "entries": 2}
        shown = filled("stats").stdout
        assert "largest namespaces" in shown
        assert "acme / alice" in shown
        assert "changes     4" in shown

    @pytest.mark.parametrize("options", [(), ("--index", "exact"), ("--index", "hnsw")])
    def test_a_probe_shows_latency_and_recall(self, filled: Invoke, options: tuple[str, ...]) -> None:
        """--probe searches for stored vectors, and says how quick that was and how much was found."""
        probe = document(filled("stats", "--probe", "20", *options, "--json"))["probe"]
        assert probe["recall"]["recall"] == 1.0
        assert probe["recall"]["comparisons"] == 20
        assert probe["recall"]["low"] < 1.0 == probe["recall"]["high"]
        assert {name: one["count"] for name, one in probe["timings_us"].items()} == {
            "search": 20,
            "search.index": 20,
            "search.rows": 20,
        }
        assert (probe["index"] is None) == ("exact" in options)
        shown = filled("stats", "--probe", "5", *options).stdout
        assert "recall      1.000, between" in shown
        assert "search.rows" in shown

    def test_a_probe_searches_through_the_saved_index(self, filled: Invoke, db: Path) -> None:
        """The index that an application has saved is the one that is probed, with its parameters, and is left so."""
        SQLiteBackend(db, hnsw=HNSWConfig(m=5, ef_construction=33, ef_search=44)).close()
        before = db.with_name(f"{db.name}-index").read_bytes()
        probe = document(filled("stats", "--probe", "3", "--json"))["probe"]
        assert (probe["index"]["m"], probe["index"]["ef_search"]) == (5, 44)
        assert db.with_name(f"{db.name}-index").read_bytes() == before

    def test_an_empty_store_has_nothing_to_probe(self, filled: Invoke) -> None:
        """Where no vector is stored there is no probe, and no error."""
        filled("delete", "--all", "--yes")
        assert document(filled("stats", "--probe", "3", "--json"))["probe"] is None

    def test_for_prometheus(self, filled: Invoke) -> None:
        """--prometheus prints what its parser reads; it goes with no other form."""
        printed = filled("stats", "--probe", "3", "--prometheus").stdout
        found = {one.name: one for one in text_string_to_metric_families(printed)}
        assert found["llmspell_memory_entries"].samples[0].value == 4
        assert "llmspell_memory_search_part_duration_seconds" in found
        for other in ("--json", "--watch"):
            assert filled("stats", "--prometheus", other).exit_code == 2


class TestDelete:
    def test_by_condition(self, filled: Invoke) -> None:
        """What matches is deleted and counted; the rest stays."""
        assert document(filled("delete", "--session", "dogs", "--yes", "--json")) == {"deleted": 2}
        assert document(filled("stats", "--json"))["entries"] == 2
        assert filled("delete", "--session", "dogs", "--yes").stdout == "deleted 0 entries\n"

    def test_by_id(self, filled: Invoke) -> None:
        """Ids may be given several times."""
        assert filled("delete", "--id", "d2", "--id", "b1", "-y").stdout == "deleted 2 entries\n"

    def test_it_asks(self, filled: Invoke) -> None:
        """Only a yes deletes; the question goes to stderr, and anything else ends with exit code 1."""
        for answer in ("n\n", "", "\n"):
            refused = filled("delete", "--session", "dogs", stdin=answer)
            assert refused.exit_code == 1
            assert "Delete 2 entries" in refused.stderr
        agreed = filled("delete", "--session", "dogs", stdin="y\n")
        assert agreed.stdout == "deleted 2 entries\n"

    def test_everything_is_to_be_said(self, filled: Invoke) -> None:
        """Without a condition --all is needed, with one it is refused."""
        assert filled("delete", "--yes").exit_code == 2
        assert filled("delete", "--all", "--session", "dogs", "--yes").exit_code == 2
        assert document(filled("delete", "--all", "--yes", "--json")) == {"deleted": 4}
