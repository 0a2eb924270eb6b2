"""What the page changes, and only when that is confirmed: deletion, import, `ef_search`; and the key it asks for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from llmspell_memory import DefaultMemoryManager, EmbeddingService, EpisodicEntry, HNSWConfig
from llmspell_memory.backends import LocalBackend
from llmspell_memory.embeddings import HashingProvider
from llmspell_memory.operations.keys import add_key
from llmspell_memory.server.page.projection import two_dimensions
from tests.interfaces.page.conftest import TEXTS, page_server
from tests.interfaces.server.conftest import manager_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.interfaces.page.conftest import Opening, Shown

DROP = """([text, name]) => {
    const data = new DataTransfer();
    data.items.add(new File([text], name));
    for (const kind of ['dragenter', 'dragover', 'drop'])
        document.body.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: data}));
}"""


@pytest.mark.parametrize("word", ["Delete", "Forget"])
def test_an_entry_goes_when_that_is_confirmed_and_not_before(shown: Shown, opening: Opening, word: str) -> None:
    """Cancelling leaves it; confirming removes this one alone, says so, and searches find it no more."""
    memory = shown.manager.episodic
    gone = memory.search("the dog Ada", 1)[0].entry
    page = opening(shown.url).open(f"#/entry?id={gone.id}")
    page.get_by_role("button", name=word, exact=True).click()
    dialog = page.get_by_role("dialog", name=f"{word} this entry?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert memory.count() == len(TEXTS)
    page.get_by_role("button", name=word, exact=True).click()
    dialog.get_by_role("button", name=f"{word} it").click()
    expect(page.get_by_role("status")).to_contain_text("deleted" if word == "Delete" else "Erased: 1")
    assert gone.id not in {one.id for one in memory.scan()}
    assert memory.count() == len(TEXTS) - 1
    page.go_back()
    page = opening(shown.url).open(f"#/entry?id={gone.id}")
    expect(page.get_by_text("There is no such entry any more.")).to_be_visible()


@pytest.mark.parametrize("word", ["Delete", "Forget"])
def test_a_session_goes_whole_and_no_other(shown: Shown, opening: Opening, word: str) -> None:
    """Its entries are gone; a session of the same name in another namespace stays."""
    memory = shown.manager.episodic
    memory.add(EpisodicEntry("monday", "user", "Another's Monday.", namespace=("alice",)))
    page = opening(shown.url).open("#/session?id=monday")
    expect(page.locator(".turn")).to_have_count(3)
    page.get_by_role("button", name=f"{word} the session").click()
    page.get_by_role("dialog").get_by_role("button", name=word).click()
    expect(page.get_by_role("status")).to_contain_text("3 entries")
    left = sorted((one.session_id, one.namespace) for one in memory.scan())
    assert left == [("monday", ("alice",)), ("tuesday", ()), ("tuesday", ()), ("wednesday", ())]


def test_a_file_is_imported_when_it_is_dropped(shown: Shown, opening: Opening) -> None:
    """From any view; what it begins with is shown, and it is stored once that is confirmed; again, nothing is new."""
    fixed = {"session_id": "thursday", "role": "user", "timestamp": "2026-03-05T09:00:00+00:00"}
    rows = [fixed | {"content": f"line {n} <b>", "id": f"t{n}"} for n in range(5)]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    page = opening(shown.url).open()
    page.evaluate(DROP, [text, "talk.jsonl"])
    expect(page.get_by_role("heading", name="talk.jsonl")).to_be_visible()
    expect(page.get_by_text("line 0 <b>")).to_be_visible()
    assert shown.manager.episodic.count() == len(TEXTS)
    expect(page.get_by_role("button", name="Import it")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("5 entries imported from talk.jsonl")
    assert [one.content for one in shown.manager.episodic.get_session("thursday")] == [
        str(row["content"]) for row in rows
    ]
    page.get_by_label("Choose a file to import").set_input_files(
        {"name": "again.jsonl", "mimeType": "", "buffer": text.encode()}
    )
    page.get_by_role("button", name="Import it").click()
    expect(page.get_by_role("status")).to_contain_text("0 entries imported from again.jsonl: 5 read, 5 there already")


def test_a_file_that_is_none_of_ours_is_refused_in_words(shown: Shown, opening: Opening) -> None:
    """The server's own words are shown, and nothing is stored."""
    page = opening(shown.url, expected="422").open("#/import")
    page.evaluate(DROP, ["<html>no lines of ours</html>\n", "page.html"])
    page.get_by_role("button", name="Import it").click()
    expect(page.get_by_role("alert")).to_contain_text("line 1")
    assert shown.manager.episodic.count() == len(TEXTS)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[str, dict[str, str], DefaultMemoryManager]]:
    manager = manager_at(tmp_path / "memory.db")
    for namespace in ((), ("alice",)):
        manager.episodic.add_many([EpisodicEntry("s", "user", f"a secret of {namespace}", namespace=namespace)])
    keys = {
        "all": add_key(manager.backend, "all", access="write")[1],
        "read": add_key(manager.backend, "read")[1],
        "alice": add_key(manager.backend, "alice", namespace=("alice",), access="write")[1],
    }
    with page_server(manager) as url:
        yield url, keys, manager


def _enter(page: Page, key: str) -> None:
    page.get_by_role("dialog", name="API key").get_by_label("Key").fill(key)
    page.get_by_role("button", name="Use this key").click()


def test_a_key_is_asked_for_and_stays_in_the_tab(
    locked: tuple[str, dict[str, str], DefaultMemoryManager], opening: Opening
) -> None:
    """Nothing is shown before; a wrong key is asked for again; the right one lies in sessionStorage alone."""
    url, keys, _ = locked
    watched = opening(url, expected="401")
    page = watched.page
    page.goto(url)
    expect(page.get_by_role("dialog", name="API key")).to_be_visible()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    expect(page.get_by_text("a secret")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="API key")).to_be_visible()
    _enter(page, "lsm_wrong")
    expect(page.get_by_text("That key is not known")).to_be_visible()
    _enter(page, keys["all"])
    expect(page.get_by_role("link", name="a secret of ()")).to_be_visible()
    stored = page.evaluate(
        "[Object.values(sessionStorage), Object.values(localStorage), document.cookie, location.href]"
    )
    assert stored[0] == [keys["all"]]
    assert keys["all"] not in json.dumps(stored[1:])
    page.reload()
    expect(page.get_by_role("link", name="a secret of ()")).to_be_visible()
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_role("dialog", name="API key")).to_be_visible()
    expect(page.get_by_text("a secret")).to_have_count(0)
    assert page.evaluate("sessionStorage.length") == 0


def test_a_key_shows_its_namespace_and_what_it_may_do(
    locked: tuple[str, dict[str, str], DefaultMemoryManager], opening: Opening
) -> None:
    """One that reads is offered no change; one of a namespace sees that as the whole, and may not tune the store."""
    url, keys, manager = locked
    page = opening(url, expected="401").page
    page.goto(url)
    _enter(page, keys["read"])
    page.get_by_role("link", name="a secret of ()").click()
    expect(page.get_by_role("region", name="Kept with it")).to_be_visible()
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    page.goto(f"{url}/#/import")
    expect(page.get_by_text("This key may read alone")).to_be_visible()
    page.get_by_role("button", name="Forget the key").click()
    _enter(page, keys["alice"])
    page.goto(f"{url}/#/search")
    expect(page.locator(".hit")).to_have_count(1)
    expect(page.locator(".hit")).not_to_contain_text("alice /")
    page.goto(f"{url}/#/tuning")
    expect(page.get_by_text("Tuning is of the whole store")).to_be_visible()
    page.goto(f"{url}/#/map")
    expect(page.locator(".map a")).to_have_count(1)
    page.locator(".map a").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("status")).to_contain_text("deleted")
    assert [one.namespace for one in manager.episodic.scan()] == [()]


def test_the_servers_own_operations_refuse_what_is_not_acceptable(
    locked: tuple[str, dict[str, str], DefaultMemoryManager],
) -> None:
    """Tuning needs a key of the whole store; limits and kinds are checked; a map tells nothing of what is above."""
    url, keys, _ = locked
    for key, path, body, status in (
        ("read", "/v1/tuning/curve", {}, 403),
        ("alice", "/v1/tuning/curve", {}, 403),
        ("alice", "/v1/tuning/ef-search", {"ef_search": 9}, 403),
        ("all", "/v1/tuning/curve", {}, 422),  # the search is exact
        ("all", "/v1/tuning/curve", {"target_recall": "much"}, 422),
        ("all", "/v1/tuning/curve", {"queries": 1_001}, 422),
        ("all", "/v1/tuning/ef-search", {"ef_search": 9}, 422),
        ("all", "/v1/tuning/ef-search", {"ef_search": "9"}, 422),
        ("all", "/v1/tuning/ef-search", {}, 422),
    ):
        answer = httpx.post(
            f"{url}{path}", json=body, headers={"Authorization": f"Bearer {keys[key]}"}, trust_env=False
        )
        assert answer.status_code == status, (key, path, body, answer.text)
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {keys['alice']}"}, trust_env=False) as http:
        (point,) = http.get("/v1/map").json()["points"]
        assert point["namespace"] == []
        assert http.get("/v1/map", params={"limit": 2_000}).status_code == 422
        assert http.get("/v1/map", params={"limit": 0}).json()["points"] == []
        assert http.get("/v1/caller").json() | {"limits": 0, "key": 0} == {
            "writes": True, "whole": False, "limits": 0, "key": 0,
        }  # fmt: skip
    assert httpx.get(f"{url}/v1/map", trust_env=False).status_code == 401


@pytest.fixture(scope="module")
def large() -> Iterator[tuple[str, DefaultMemoryManager]]:
    """A memory large enough for its graph to matter, kept in RAM."""
    service = EmbeddingService(HashingProvider(32))
    backend = LocalBackend(service.space, hnsw=HNSWConfig(m=4, ef_construction=20, ef_search=12))
    manager = DefaultMemoryManager(backend, service)
    vectors = np.random.default_rng(7).standard_normal((4_000, 32)).astype(np.float32)
    manager.episodic.add_many(
        [EpisodicEntry(f"s{n % 40}", "user", f"text {n}", embedding=one) for n, one in enumerate(vectors)]
    )
    with page_server(manager) as url:
        yield url, manager


def test_the_slider_shows_the_trade_and_sets_nothing_unconfirmed(
    large: tuple[str, DefaultMemoryManager], opening: Opening
) -> None:
    """More candidates, more recall; moving it changes no search, and neither does cancelling; confirming does."""
    url, manager = large
    page = opening(url).open("#/tuning")
    page.get_by_role("button", name="Measure the curve").click()
    slider = page.get_by_role("slider", name="Candidates of a search, ef_search")
    expect(slider).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="12 is in force")).to_be_disabled()
    before = _recall(page)
    slider.focus()
    page.keyboard.press("End")
    assert _recall(page) > before
    told = slider.get_attribute("aria-valuetext") or ""
    wanted = int(told.partition(":")[0].replace(",", ""))
    assert wanted > 12
    assert manager.backend.hnsw is not None
    assert manager.backend.hnsw.ef_search == 12
    for word in ("Cancel", "Set it"):
        assert manager.backend.hnsw.ef_search == 12
        page.get_by_role("button", name=f"Set ef_search to {wanted}").click()
        page.get_by_role("dialog").get_by_role("button", name=word).click()
    expect(page.get_by_role("status")).to_have_text(f"ef_search is {wanted} now")
    hnsw: Any = manager.backend.hnsw
    assert hnsw.ef_search == wanted
    expect(page.get_by_role("img", name="Recall by ef_search")).to_be_visible()


def _recall(page: Page) -> float:
    return float((page.locator(".tile dd").nth(1).text_content() or "").partition(" ")[0])


def test_health_follows_what_is_done(large: tuple[str, DefaultMemoryManager], opening: Opening) -> None:
    """The figures are the memory's own, and go on while the view is shown."""
    url, manager = large
    page = opening(url).open("#/health")
    expect(page.get_by_text("All is well.")).to_be_visible()
    expect(page.locator(".tile").first).to_contain_text("4,000")
    manager.episodic.search("text 7", 5)
    expect(page.get_by_role("row", name="search ").first).to_be_visible(timeout=15_000)
    expect(page.get_by_role("img", name="Search latency: p50")).to_be_visible()


def test_the_map_is_walked_by_arrow_keys_and_opens_entries(
    large: tuple[str, DefaultMemoryManager], opening: Opening
) -> None:
    """A sample of at most 500 points with one stop for Tab; a point tells what it is, and Enter opens it."""
    url, _ = large
    page = opening(url).open("#/map")
    points = page.locator(".map a")
    expect(points).to_have_count(500)
    expect(page.locator(".map a[tabindex='0']")).to_have_count(1)
    points.first.focus()
    x = float(points.first.locator("circle").get_attribute("cx") or 0)
    page.keyboard.press("ArrowRight" if x < 550 else "ArrowLeft")
    here = page.locator(".map a:focus")
    moved = float(here.locator("circle").get_attribute("cx") or 0)
    assert (moved > x) == (x < 550)
    name = here.get_attribute("aria-label") or ""
    text = name.partition(",")[0]
    expect(page.locator(".tip")).to_contain_text(text)
    page.keyboard.press("Enter")
    expect(page.locator(".entry .content")).to_have_text(text)
    page.go_back()
    one = page.get_by_role("list", name="Show one session alone").get_by_role("button").first
    one.click()
    expect(one).to_have_attribute("aria-pressed", "true")
    shown = page.locator(".map a.chosen").count()
    assert 0 < shown < 500


def test_places_keep_what_two_dimensions_can() -> None:
    """Vectors of a plane keep their distances exactly, however wide they are; the same come out the same way."""
    chance = np.random.default_rng(3)
    plane = chance.standard_normal((40, 2))
    for width in (8, 200):  # fewer numbers than vectors, and more
        axes = np.linalg.qr(chance.standard_normal((width, 2)))[0]
        vectors = list((plane @ axes.T).astype(np.float32))
        places, kept = two_dimensions(vectors)
        assert kept == pytest.approx(1.0, abs=1e-5)
        assert np.abs(places).max() == pytest.approx(1.0)
        ours = np.linalg.norm(places[:, None] - places[None], axis=2)
        theirs = np.linalg.norm(plane[:, None] - plane[None], axis=2)
        np.testing.assert_allclose(ours / ours.max(), theirs / theirs.max(), atol=1e-4)
        np.testing.assert_array_equal(two_dimensions(vectors)[0], places)
    for few in ([], [np.ones(4, np.float32)], [np.ones(4, np.float32)] * 3):
        places, kept = two_dimensions(few)
        assert places.tolist() == [[0.0, 0.0]] * len(few)
        assert kept == 1.0
