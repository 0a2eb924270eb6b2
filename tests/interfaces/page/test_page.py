"""The page in a real browser: what it finds and shows, without a mouse, at night, on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect

from llmspell_memory import EpisodicEntry
from tests.interfaces.page.conftest import TEXTS

if TYPE_CHECKING:
    from tests.interfaces.page.conftest import Opening, Shown

VIEWS = {
    "search": ".hit",
    "sessions": ".session-row",
    "map": ".map a",
    "health": ".tile",
    "tuning": "#target",
    "import": "#file",
}
"""Each view, and what is there once it is shown."""


def test_it_finds_while_one_types_and_shows_why(shown: Shown, opening: Opening) -> None:
    """A hit has its text, its score and the parts that make it; the number of hits is told to a screen reader."""
    page = opening(shown.url).open()
    expect(page.get_by_text("Latest entries")).to_be_visible()
    page.get_by_role("searchbox", name="Search the memory").press_sequentially("dog called Ada")
    first = page.get_by_role("region", name="Results").get_by_role("article").first
    expect(first.get_by_role("link", name="My dog is called Ada and she eats socks.")).to_be_visible()
    hit = shown.manager.episodic.search("dog called Ada", 20, mode="hybrid", parts=True)[0]
    expect(first.locator(".score")).to_have_text(f"Score {hit.score:.3f}")
    assert hit.parts is not None
    expect(first.get_by_role("list", name="Parts of the score")).to_contain_text(
        f"meaning {hit.parts['semantic'].share:.2f}"
    )
    expect(page.get_by_role("status")).to_contain_text("found")
    page.get_by_label("In session").fill("tuesday")
    expect(page.get_by_role("article")).to_have_count(2)
    page.get_by_label("How", exact=True).select_option("keyword")
    expect(page.get_by_text("Nothing was found.")).to_be_visible()
    assert "mode=keyword" in page.url


def test_an_entry_is_shown_with_its_neighbours_and_what_is_kept_with_it(shown: Shown, opening: Opening) -> None:
    """What is near it in meaning does not hold itself; its session is there in order; metadata are there."""
    page = opening(shown.url).open()
    page.get_by_role("link", name="A fine name. How old is Ada?").click()
    expect(page.get_by_role("heading", name="Entry", exact=True)).to_be_focused()
    near = page.get_by_role("region", name="Nearest in meaning")
    expect(near.get_by_role("listitem")).to_have_count(5)
    expect(near).not_to_contain_text("A fine name")
    session = page.get_by_role("region", name="In its session").get_by_role("listitem")
    expect(session).to_have_text([f"{role} {text}" for name, role, text in TEXTS if name == "monday"])
    expect(session.nth(1)).to_have_attribute("aria-current", "true")
    expect(page.get_by_role("region", name="Kept with it")).to_contain_text("n1")
    page.go_back()
    expect(page.get_by_role("heading", name="Search", exact=True)).to_be_visible()


def test_sessions_are_timelines(shown: Shown, opening: Opening) -> None:
    """All sessions are there, can be narrowed by name, and each shows what was said in order."""
    page = opening(shown.url).open("#/sessions")
    expect(page.locator(".sessions li")).to_have_count(3)
    page.get_by_label("Only those whose name has").fill("TUES")
    expect(page.locator(".sessions li")).to_have_count(1)
    page.get_by_role("link", name="tuesday").click()
    expect(page.locator(".timeline .content")).to_have_text([text for name, _, text in TEXTS if name == "tuesday"])


def test_it_is_used_by_the_keyboard_alone(shown: Shown, opening: Opening) -> None:
    """From the first Tab to an opened entry and to its deletion being refused, no mouse is needed."""
    page = opening(shown.url, has_touch=True, is_mobile=True).open(
        "#/sessions"
    )  # there, nothing takes the focus itself
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Only those whose name has")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("/")
    expect(page.get_by_role("heading", name="Search", exact=True)).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("bakery opens")
    expect(page.get_by_role("article").first).to_contain_text("The bakery opens")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("article").first.get_by_role("heading").get_by_role("link")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Entry", exact=True)).to_be_focused()
    expect(page.get_by_role("region", name="In its session").get_by_role("listitem")).to_have_count(2)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Delete", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Delete this entry?")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete", exact=True)).to_be_focused()
    assert shown.manager.episodic.count() == len(TEXTS)


HOSTILE = [
    "<script>window.broken = 1</script><img src=x onerror='window.broken = 1'>",
    "</textarea></script><svg onload=window.broken=1><a href='javascript:window.broken=1'>x</a>",
    "{{constructor.constructor('window.broken=1')()}} ${window.broken=1} &lt;b&gt; \u202etxet",
    "x" * 3_000,
]


def test_hostile_contents_stay_text(shown: Shown, opening: Opening) -> None:
    """Whatever an entry, its session, role, id, namespace or metadata hold is shown as it is, and runs nowhere."""
    for n, text in enumerate(HOSTILE):
        name = text[:60]
        shown.manager.episodic.add(
            EpisodicEntry(
                name, name, text, id=f"../{n}?#&{name}", namespace=(name, ".."), metadata={name: text, "__proto__": "p"}
            )
        )
    page = opening(shown.url, viewport={"width": 390, "height": 800}).open()
    links = page.locator(".hit h2 a")
    expect(links).to_have_count(len(TEXTS) + len(HOSTILE))
    for text in HOSTILE:
        expect(links.get_by_text(text, exact=True)).to_have_count(1)
    for text in HOSTILE:
        page.goto(f"{shown.url}/#/search")
        page.locator(".hit h2 a").get_by_text(text, exact=True).click()
        expect(page.locator(".entry .content")).to_have_text(text)
        kept = page.get_by_role("region", name="Kept with it")
        expect(kept).to_contain_text("__proto__")
        assert _overflow(page) <= 0
        page.locator(".entry .meta a").click()
        expect(page.locator(".timeline .content")).to_have_text([text])
        assert _overflow(page) <= 0
    for view in ("sessions", "map", "health"):
        page.goto(f"{shown.url}/#/{view}")
        expect(page.locator(VIEWS[view]).first).to_be_visible()
        assert _overflow(page) <= 0, view
    assert page.evaluate("window.broken") is None
    assert page.locator("main script, main img, main [onerror], main [onload]").count() == 0


def _overflow(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize(
    ("width", "scheme"), [(320, "dark"), (390, "light"), (390, "dark"), (820, "light"), (1280, "light")]
)
def test_every_view_fits_and_has_its_landmarks(shown: Shown, opening: Opening, width: int, scheme: str) -> None:
    """By day and by night, from a small phone up: no horizontal scroll, one heading, landmarks, names on all fields."""
    page = opening(shown.url, viewport={"width": width, "height": 800}, color_scheme=scheme).open()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(",")) / 3
    assert (light > 200) == (scheme == "light"), ground
    for view, content in VIEWS.items():
        page.get_by_role("navigation", name="Views").get_by_role("link", name=view.capitalize()).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(view.capitalize())
        expect(page.get_by_role("navigation").locator("[aria-current=page]")).to_have_text(view.capitalize())
        expect(page.locator(content).first).to_be_visible()
        assert page.title() == f"{view.capitalize()} · llmspell-memory"
        assert _overflow(page) <= 0, view
        for role in ("banner", "main", "navigation"):
            expect(page.get_by_role(role)).to_have_count(1)
        unnamed = page.locator("main :is(input, select)").evaluate_all(
            "all => all.filter(one => !one.labels.length && !one.ariaLabel).map(one => one.outerHTML)"
        )
        assert unnamed == []


def test_a_browser_is_told_to_run_nothing_else(shown: Shown, opening: Opening) -> None:
    """Every file comes under a policy that allows our own alone; an inline script and another host are refused."""
    with httpx.Client(base_url=shown.url, trust_env=False) as http:
        for path in ("/", "/page/main.js", "/page/page.css", "/page/icon.svg"):
            answer = http.get(path)
            assert answer.status_code == 200
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = http.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        for path in ("/page/nothing.js", "/page/..%2ffiles.py", "/page/files.py", "/page/"):
            assert http.get(path).status_code == 404, path
        assert http.head("/").status_code == 200
    watched = opening(shown.url, expected="Content Security Policy")
    page = watched.open()
    script = "const one = document.createElement('script'); one.textContent = 'window.broken = 1'; "
    page.evaluate(f"() => {{ {script} document.body.append(one); }}")
    refused = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'asked', error => error.message)")
    assert page.evaluate("window.broken") is None
    assert refused == "Failed to fetch"
    watched.hosts.discard("127.0.0.1:9")
