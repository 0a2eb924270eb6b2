"""The site as a whole, and how what is generated comes into it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client
from mkdocs.exceptions import PluginError

from llmspell_memory import DefaultMemoryManager
from llmspell_memory.mcp import create_server
from mkdocs_hook import MADE, on_page_markdown
from reference.markdown import prose
from reference.schemas import Teller
from tests.interfaces.site.conftest import ROOT, page_of, squeezed

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import Tool

POINTERS = {
    "commands": "llmspell-memory COMMAND --help",
    "operations": "/openapi.json",
    "verbs": "/openapi.json",
    "schemas": "/openapi.json",
    "tools": "tools/list",
}


async def tools() -> list[Tool]:
    with DefaultMemoryManager.new_in_memory() as manager:
        async with Client(create_server(manager.episodic)) as client:
            return (await client.list_tools()).tools


async def test_every_tool_is_told_as_a_client_is(site: Path) -> None:
    """Title, description, annotations, arguments and results of the MCP tools, as a client gets them."""
    there = await tools()
    sections = page_of(site, "tools.html").sections
    assert [one.name for one in there] == [*sections]
    assert len(there) == 6
    for one in there:
        section = sections[one.name]
        text = squeezed(section.text)
        assert squeezed(f"{one.title}. {one.description}") in text
        assert one.annotations is not None
        hints = one.annotations.model_dump(by_alias=True, exclude_none=True)
        assert len(hints) == 4
        assert squeezed(", ".join(f"{name} {json.dumps(value)}" for name, value in hints.items())) in text
        arguments, meanings = one.input_schema["properties"].items(), map(squeezed, section.meanings)
        assert len(section.terms) >= len(arguments) > 0
        for (name, schema), term, meaning in zip(arguments, section.terms, meanings, strict=False):
            assert term == (f"{name} required" if name in one.input_schema.get("required", ()) else name)
            assert squeezed(schema["description"]) in meaning
            if schema.get("default") is not None:
                assert f"{json.dumps(schema['default'])}unlessgiven" in meaning
        results = (one.output_schema or {"properties": {}})["properties"]
        assert {f"{name} required" for name in results} <= {*section.terms[len(arguments) :]}


def test_the_site_asks_no_other_host(site: Path) -> None:
    """Scripts, styles, fonts and pictures of every page come with it."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        asked = page_of(site, str(page.relative_to(site))).asked
        assert asked
        assert not [one for one in asked if re.match(r"[a-z]+:|//", one) and not one.startswith("data:")], page


def test_each_part_has_one_page_and_a_pointer_there() -> None:
    """Every generated part stands on one page of docs/, which says where to look as long as nothing is built."""
    found = {}
    for page in (ROOT / "docs").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name, pointer in re.findall(r"^<!-- generated:(\w+) -->\n(.*?)^<!-- gen", text, re.MULTILINE | re.DOTALL):
            assert name == page.stem
            found[name] = pointer
    assert found.keys() == MADE.keys() == POINTERS.keys()
    for name, pointer in found.items():
        assert POINTERS[name] in pointer


def test_a_page_keeps_what_is_its_own() -> None:
    """What stands around a place stays; what stood in it goes."""
    made = on_page_markdown("before\n<!-- generated:tools -->\npointer\n<!-- generated:end -->\nafter")
    assert made.startswith("before\n## <code>add")
    assert made.endswith("\nafter")
    assert "pointer" not in made
    assert on_page_markdown("nothing to do") == "nothing to do"


@pytest.mark.parametrize(
    "page",
    [
        "<!-- generated:nothing -->\n<!-- generated:end -->",
        "<!-- generated:tools -->\n",
        "<!-- generated:end -->\n",
    ],
)
def test_a_place_that_cannot_be_filled_is_an_error(page: str) -> None:
    """An unknown name, or a place without its end, ends the build."""
    with pytest.raises(PluginError, match="generated"):
        on_page_markdown(page)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "contentEncoding": "base64"},
        {"type": "array", "items": {"type": "integer", "multipleOf": 2}},
        {"anyOf": [{"type": "object", "minProperties": 1}]},
        {"type": "date"},
    ],
)
def test_a_schema_without_words_is_an_error(schema: dict[str, object]) -> None:
    """A keyword that the page would leave out ends the build."""
    with pytest.raises(ValueError, match="no words"):
        Teller(lambda reference: reference).told(schema)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number, above 0 to 1."),
        ({"type": "integer", "minimum": 0, "maximum": 1_000}, "integer, from 0 to 1,000."),
        ({"type": "integer", "default": 5, "description": "Most."}, "integer, 5 unless given. Most."),
        ({"type": "string", "minLength": 1, "pattern": "^[^\\u0000]+$"}, "string, not empty, without NUL."),
        ({"type": "string", "maxLength": 9, "pattern": "x+"}, "string, 0 to 9 characters, matching x+."),
        ({"type": "string", "format": "date-time"}, "string, date and time."),
        ({"type": ["null", "number"]}, "null or number."),
        ({"enum": ["a", True]}, "&quot;a&quot; or true."),
        ({"type": "array", "items": {"$ref": "X"}, "minItems": 2, "maxItems": 2}, "array of 2: <X>."),
        ({"type": "string", "minLength": 2}, "string, at least 2 characters."),
        ({"type": "array", "items": {"type": "null"}, "minItems": 1}, "array of null, at least 1 of them."),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 1_000}, "array of string, at most 1,000 of them."),
        ({"oneOf": [{"type": "integer", "minimum": 1}, {"const": 0}, {"$ref": "X"}]}, "integer, from 1; 0 or <X>."),
        ({"type": "object", "additionalProperties": {"$ref": "X"}}, "object with values that are each <X>."),
        ({"type": "object", "required": ["a", "b"]}, "object with a and b and more."),
        ({"type": "object", "properties": {}, "additionalProperties": False}, "object without members."),
    ],
)  # fmt: skip
def test_schemas_have_words(schema: dict[str, Any], words: str) -> None:
    """What a schema allows is told so that it can be read in one way alone."""
    told = Teller(lambda reference: f"<{reference}>").told(schema)
    assert re.sub("</?code>", "", told) == words


def test_a_member_is_required_or_may_be_null() -> None:
    """The null that stands for an absent member is left out, and the null of one that must be there is not."""
    null = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    told = Teller(str).told({"type": "object", "properties": {"a": null, "b": null}, "required": ["b"]})
    assert told == (
        "object, which may have more.\n\n<code>a</code>\n:   string.\n\n<code>b</code> *required*\n:   string or null."
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a <b> & *c*", "a &lt;b&gt; &amp; &#42;c&#42;"),
        ("`x` and --y-z.", "<code>x</code> and <code>--y-z</code>."),
        ("prints {a: {b: [{}]}}", "prints <code>&#123;a: &#123;b: &#91;&#123;&#125;&#93;&#125;&#125;</code>"),
        ("by PGPASSWORD, A_B or NO", "by <code>PGPASSWORD</code>, <code>A&#95;B</code> or NO"),
    ],
)  # fmt: skip
def test_texts_are_shown_as_they_are(text: str, shown: str) -> None:
    """Nothing in a help text is taken for markup; what is code is set as such."""
    assert prose(text) == shown
