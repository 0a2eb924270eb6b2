"""The pages about HTTP against the OpenAPI document: whatever that says of an operation or a schema stands there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmspell_memory.server.openapi import document
from llmspell_memory.server.settings import ServerConfig
from tests.interfaces.site.conftest import Section, page_of, squeezed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENT = document(ServerConfig(), 256)
OPERATIONS = {
    told["operationId"]: (f"{method.upper()} {path}", told)
    for path, methods in DOCUMENT["paths"].items()
    for method, told in methods.items()
}
SCHEMAS = DOCUMENT["components"]["schemas"]
RIGHTS = {
    (): "Needs no key.",
    ("read",): "Needs any key.",
    ("write",): "Needs a key with --access write.",
    ("read", "whole"): "Needs a key without --namespace.",
    ("write", "whole"): "Needs a key with --access write and without --namespace.",
}


def said(schema: Any) -> Iterator[tuple[str, str]]:
    """Yield all that a schema says and a reader must find: names, links, values, bounds, sentences; and their kind."""
    if isinstance(schema, list):
        for one in schema:
            yield from said(one)
    elif isinstance(schema, dict):
        for keyword, value in schema.items():
            yield from _said(keyword, value)


def _said(keyword: str, value: Any) -> Iterator[tuple[str, str]]:
    if keyword == "properties":
        yield from (("term", name) for name in value)
        yield from said(list(value.values()))
    elif keyword == "required" and isinstance(value, list):
        yield from (("text", name) for name in value)
    elif keyword == "$ref":
        yield "link", f"schemas.html#{value.rpartition('/')[2].lower()}"
    elif keyword in {"enum", "const"}:
        yield from (("text", json.dumps(one)) for one in (value if keyword == "enum" else [value]))
    elif keyword == "description":
        yield "text", value.removesuffix(".")
    elif keyword in {"minimum", "maximum", "exclusiveMinimum", "maxItems"}:
        yield "text", f"{value:,}"
    else:
        yield from said(value)


def assert_said(section: Section, schema: Any, of: str) -> None:
    names = {term.split()[0] for term in section.terms}
    found = list(said(schema))
    assert found, f"{of}: the schema says nothing"
    for kind, one in found:
        if kind == "term":
            assert one in names, f"{of} does not name {one}"
        elif kind == "link":
            assert {one, one.removeprefix("schemas.html")} & set(section.links), f"{of} lacks {one}"
        else:
            assert squeezed(one) in squeezed(section.text), f"{of} does not say {one!r}"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, dict[str, Section]]:
    return {name: page_of(site, f"{name}.html").sections for name in ("operations", "verbs", "schemas")}


@pytest.fixture(scope="module")
def operations(pages: dict[str, dict[str, Section]]) -> dict[str, Section]:
    told = {**pages["operations"], **pages["verbs"]}
    return {name: section for name, section in told.items() if not name.startswith("tag-") and name != "errors"}


def test_every_operation_has_its_section(operations: dict[str, Section]) -> None:
    """All operations, each once, under its method and path; the verbs of a backend on a page of their own."""
    assert len(OPERATIONS) > 35
    assert operations.keys() == OPERATIONS.keys()
    for name, (called, _) in OPERATIONS.items():
        assert squeezed(operations[name].title) == squeezed(called)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_told(operations: dict[str, Section], name: str) -> None:
    """Its line, what a key must be allowed, parameters, body with its example, answers, and every error it may be."""
    section, told = operations[name], OPERATIONS[name][1]
    text = squeezed(section.text)
    assert squeezed(told["summary"]) in text
    needs = told["security"]
    assert squeezed(RIGHTS[tuple(needs[0]["key"]) if needs else ()]) in text
    for parameter, term, meaning in zip(told.get("parameters", ()), section.terms, section.meanings, strict=False):
        assert term.split()[0] == parameter["name"]
        assert (" required" in term) == parameter.get("required", False)
        assert squeezed(parameter.get("description", "")) in squeezed(meaning)
    assert len(section.terms) >= len(told.get("parameters", ()))
    assert_said(section, told.get("parameters", [{"description": told["summary"]}]), name)
    for content in told.get("requestBody", {"content": {}})["content"].values():
        assert_said(section, {"description": told["summary"], **content["schema"]}, name)
        assert squeezed(json.dumps(content.get("example", {}), ensure_ascii=False))[1:-1] in text
    for status, response in told["responses"].items():
        assert status in text
        if status.startswith("2"):
            assert_said(section, [{"description": told["summary"]}, *response["content"].values()], name)
            assert all(media_type in text for media_type in response["content"])
        else:
            assert any(link.endswith(f"#error-{status}") for link in section.links), f"{name} lacks {status}"


def test_every_error_is_explained(pages: dict[str, dict[str, Section]]) -> None:
    """Each status of an error stands once, with what it means."""
    told = {
        (status, one["description"])
        for _, operation in OPERATIONS.values()
        for status, one in operation["responses"].items()
        if not status.startswith("2")
    }
    section = pages["operations"]["errors"]
    assert sorted(told) == [*zip(section.terms, section.meanings, strict=True)]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_told(pages: dict[str, dict[str, Section]], name: str) -> None:
    """Each schema has its section: members, what they may be, what must be there, what it refers to."""
    section = pages["schemas"][name.lower()]
    assert squeezed(section.title) == name
    assert_said(section, SCHEMAS[name], name)
    if "properties" in SCHEMAS[name]:
        required = {term.split()[0] for term in section.terms if term.endswith(" required")}
        assert required == set(SCHEMAS[name].get("required", ()))


def test_there_are_no_other_schemas(pages: dict[str, dict[str, Section]]) -> None:
    """The page and the document have the same."""
    assert pages["schemas"].keys() == {name.lower() for name in SCHEMAS}
