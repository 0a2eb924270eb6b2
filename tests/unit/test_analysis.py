"""Texts to terms: what finds what."""
# ruff: noqa: RUF001 (look-alikes are what some of these texts are about)

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_memory.errors import ConfigError
from llmspell_memory.index import Analyzer

english = Analyzer()
plain = Analyzer(None)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The cats were running, quickly!", "the cat were run quick"),
        ("Anna's users' don't we'll I'm can't", "anna user dont we i cant"),
        ("Anna’s rock’n’roll O'Brien", "anna rock n roll rocknrol o brien obrien"),
        ("e-mail email", "e mail email email"),
        ("user_id userId UserID user.id", "user id userid user id userid user id userid user id userid"),
        (
            "HTTPServer iPhone15 XMLHttpRequest",
            "http server httpserver i phone 15 iphone15 xml http request xmlhttprequest",
        ),
        ("__init__ std::vector<int> a->b", "init std vector stdvector int a b"),
        ("bob.smith@example.com", "bob smith exampl com bobsmithexamplecom"),
        ("https://a.example/b?x=1", "https a exampl b httpsaexampleb x 1 x1"),
        ("/usr/lib/libfoo.so.1", "usr lib libfoo so 1 usrliblibfooso1"),
        ("C:\\Users\\bob", "c user bob usersbob"),
        ("C++ C# C .NET node.js", "c c++ c c# c net node js nodej"),
        ("$1,234.56 10:30 2024-05-07 3.14", "1234 56 1234.56 10 30 10:30 2024 05 07 2024-05-07 3 14 3.14"),
        ("v1.2.3 1.2.3 V2 x2", "1 2 3 1.2.3 1 2 3 1.2.3 2 x2"),
        ("GPT-4 gpt4 PROJ-1234", "gpt 4 gpt4 gpt4 proj 1234 proj1234"),
        ("ＦＵＬＬ　ｗｉｄｔｈ １２ ٣٤ ﬁne", "full width 12 34 fine"),
        ("café José Zürich", "cafe jose zurich"),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zero width"),
        ("STRASSE straße", "strass strass"),
        ("記憶は大切。記", "記憶 憶は は大 大切 記"),
        ("カタカナ ｶﾀ", "カタ タカ カナ カタ"),
        ("기억을", "기억 억을"),
        ("iPhoneを買う", "i phone iphon を買 買う"),
        ("हिन्दी में", "हिन्दी में"),
        ("👍🏽👍 ❤️ 👨‍👩‍👧 1️⃣ ☃", "👍 👍 ❤ 👨 👩 👧 1 ☃"),
        ("", ""),
        (" \n\t ... !? — ", ""),
        ("aGVsbG8gd29ybGQhIQ", "agvsbg8gd29ybgqhiq"),
    ],
)
def test_terms(text: str, terms: str) -> None:
    """Each kind of text gives the terms that are told."""
    assert english.terms(text) == terms.split()
    assert english.terms(text) == terms.split()  # also from memory


def test_thai_is_found_by_neighbouring_characters() -> None:
    whole, part = plain.terms("ภาษาไทยสวยงาม"), plain.terms("ไทย")
    assert len(part) == 2
    assert set(part) <= set(whole)


def test_each_language_has_its_own_stems() -> None:
    """Stems are the language's; without one words stay as they are, accents too, but for case."""
    assert Analyzer("german").terms("Häuser Haus") == ["haus", "haus"]
    assert Analyzer("french").terms("l'homme chevaux")[1:] == ["homm", "lhomm", "cheval"]
    assert Analyzer("hindi").terms("लड़कियाँ") != ["लड़कियाँ"]
    assert plain.terms("Running Cafés") == ["running", "cafés"]


@pytest.mark.parametrize("language", ["klingon", "", 3, "English"])
def test_an_unknown_language_is_refused(language: object) -> None:
    with pytest.raises(ConfigError, match="language must be one of arabic"):
        Analyzer(language)  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_any_text_has_terms_or_none(text: str) -> None:
    """Whatever comes, terms are texts that UTF-8 can hold, without case or spaces, and the same each time."""
    for analyzer in (english, plain):
        terms = analyzer.terms(text)
        assert terms == Analyzer(analyzer.language).terms(text)
        for term in terms:
            assert term
            assert term.encode()
            assert not any(letter.isspace() for letter in term)


@given(st.text(max_size=30), st.text(max_size=30))
def test_texts_side_by_side_have_the_terms_of_both(one: str, other: str) -> None:
    assert english.terms(f"{one} {other}") == english.terms(one) + english.terms(other)


@given(st.text(max_size=40).filter(str.isascii))
def test_case_of_letters_that_are_no_camel_does_not_matter(text: str) -> None:
    assert english.terms(text.lower()) == english.terms(text.lower().upper().lower())
    assert set(plain.terms(text.upper())) == set(plain.terms(text.lower()))


@pytest.mark.parametrize(
    "text",
    [
        "x" * 2_000_000,
        "aA" * 1_000_000,
        "a." * 500_000,
        "A" + "\u0301" * 1_000_000 + "b",
        "\u0301A" * 400_000,
        "記" * 500_000,
        "1," * 1_000_000,
        "don't'" * 200_000,
        "v1" * 500_000,
    ],
    ids=["one word", "humps", "parts", "marks", "marked", "characters", "commas", "apostrophes", "versions"],
)
def test_hostile_texts_take_time_and_terms_by_their_length(text: str) -> None:
    """No text takes more than some microseconds a letter, nor gives more than one term a letter, none of them long."""
    start = time.process_time()
    terms = english.terms(text)
    assert time.process_time() - start < 1e-5 * len(text)
    assert len(terms) <= len(text)
    assert max(map(len, terms)) <= 2 * 128


def test_what_is_remembered_is_bounded() -> None:
    """Ever new words do not fill the memory."""
    analyzer = Analyzer()
    for place in range(100_000):
        analyzer.terms(f"word{place}")
    assert len(analyzer._known) <= 1 << 15
    before = len(analyzer._known)
    analyzer.terms("記憶は大切です。だから書く。" * 5 + " " + "y" * 100)
    assert len(analyzer._known) == before


def test_threads_make_the_same_terms() -> None:
    """Several threads at once, with much to be made, get what one gets."""
    texts = [f"running{place} walked{place % 7} Flying-{place} ponies{place}" for place in range(3000)]
    expected = [Analyzer().terms(text) for text in texts]
    shared = Analyzer()
    got: dict[int, list[list[str]]] = {}
    threads = [
        threading.Thread(target=lambda number=number: got.update({number: [shared.terms(text) for text in texts]}))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == expected for one in got.values())
    assert len(got) == 4
