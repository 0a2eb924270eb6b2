"""JSON schemas in words.

A keyword that has no words here is an error, so that nothing a schema says is left out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from reference.markdown import code, definitions, document, prose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Schema: TypeAlias = "Mapping[str, Any]"
Linked: TypeAlias = "Callable[[str], str]"
"""Returns the link to a schema that another refers to, by the reference."""

_NULL: Final = {"type": "null"}
_TYPES: Final = frozenset({"string", "boolean", "null", "number", "integer"})
_PATTERNS: Final = {"^[^\\u0000]+$": "without NUL", "^[^\\u0000]*$": "without NUL"}
_SILENT: Final = frozenset({"title"})
"""Keywords that say nothing: the title that pydantic makes of a member's name."""


class Teller:
    """Tells schemas in words.

    Args:
        linked: makes a link of a reference.
        among: what references lead to that have no link, `linked` returning an empty text: it is told in its place.
    """

    def __init__(self, linked: Linked, among: Mapping[str, Schema] | None = None) -> None:
        self._linked = linked
        self._among = among or {}

    def told(self, schema: Schema) -> str:
        """Return what a value must be, in Markdown; members of an object follow as a list.

        Raises:
            ValueError: the schema has a keyword that there are no words for.
        """
        rest = {name: value for name, value in schema.items() if name not in _SILENT}
        described = prose(rest.pop("description", ""))
        default = rest.pop("default", None)
        line, members = self._kind(rest)
        if rest:
            raise ValueError(f"there are no words for {', '.join(rest)} of {schema}")
        if default is not None:
            line += f", {code(json.dumps(default))} unless given"
        if line == "object" and members:  # which the members say
            line = ""
        sentences = " ".join(one for one in (f"{line}." if line else "", described) if one)
        return document(sentences, members)

    def members(self, schema: Schema) -> str:
        """Return the members of an object as a list."""
        needed = schema.get("required", ())
        return definitions(
            (f"{code(name)}{' *required*' if name in needed else ''}", self.told(_offered(one, needed=name in needed)))
            for name, one in schema["properties"].items()
        )

    def _kind(self, rest: dict[str, Any]) -> tuple[str, str]:
        """Return what kind of value is meant, in a line, and its members; takes the keywords told from `rest`."""
        if "$ref" in rest:
            return self._reference(rest.pop("$ref"))
        for keyword in ("anyOf", "oneOf"):
            if keyword in rest and "properties" not in rest:
                return self._either(rest.pop(keyword))
        if "enum" in rest or "const" in rest:
            return _or([code(json.dumps(one)) for one in _constants(rest)]), ""
        return self._typed(rest)

    def _typed(self, rest: dict[str, Any]) -> tuple[str, str]:
        kind = rest.pop("type", None)
        if kind == "array":
            return self._list(rest)
        if kind == "object":
            return self._object(rest)
        kinds = kind if isinstance(kind, list) else [kind]
        if not _TYPES.issuperset(kinds):
            raise ValueError(f"there are no words for the type {kind!r}")
        return _or(kinds) + _text(rest) + _range(rest), ""

    def _reference(self, reference: str) -> tuple[str, str]:
        link = self._linked(reference)
        if link:
            return link, ""
        schema = self._among[reference]
        described = prose(schema.get("description", "")).removesuffix(".")
        return described[:1].lower() + described[1:], self.members(schema)

    def _either(self, schemas: list[Schema]) -> tuple[str, str]:
        kinds = [self._kind_of(one) for one in schemas]
        return _or([line for line, _ in kinds]), document(*(members for _, members in kinds))

    def _kind_of(self, schema: Schema) -> tuple[str, str]:
        rest = dict(schema)
        described = prose(rest.pop("description", "")).removesuffix(".")
        line, members = self._kind(rest)
        if rest:
            raise ValueError(f"there are no words for {', '.join(rest)} within {schema}")
        return line + (f" ({described})" if described else ""), members

    def _list(self, rest: dict[str, Any]) -> tuple[str, str]:
        line, members = self._kind_of(rest.pop("items"))
        least, most = rest.pop("minItems", None), rest.pop("maxItems", None)
        if least == most is not None:
            return f"array of {least:,}: {line}", members
        if least is not None:
            line += f", at least {least:,} of them"
        if most is not None:
            line += f", at most {most:,} of them"
        return f"array of {line}", members

    def _object(self, rest: dict[str, Any]) -> tuple[str, str]:
        names = rest.pop("propertyNames", None)
        further = rest.pop("additionalProperties", True)
        needed = rest.pop("required", [])
        line = "object"
        if names is not None:
            line += f" with names {_PATTERNS[names['pattern']]}"
        if isinstance(further, dict):
            line += f"{' and' if names else ' with'} values that are each {self._kind_of(further)[0]}"
        if rest.get("oneOf"):
            choices = [_or([code(name) for name in one["required"]]) for one in rest.pop("oneOf")]
            line += f" with {_or(choices)}, and not both"
        properties = rest.pop("properties", None)
        if properties is None:
            return line + (f" with {_and([code(one) for one in needed])} and more" if needed else ""), ""
        if not properties:
            return "object without members", ""
        line += "" if further is False else ", which may have more"
        return line, self.members({"properties": properties, "required": needed})


def _offered(schema: Schema, *, needed: bool) -> Schema:
    """Return the schema of a member without the null that stands for its absence."""
    choices = schema.get("anyOf", ())
    if needed or _NULL not in choices:
        return schema
    others = [one for one in choices if one != _NULL]
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**rest, **others[0]} if len(others) == 1 else {**rest, "anyOf": others}


def _constants(rest: dict[str, Any]) -> list[Any]:
    rest.pop("type", None)  # which they tell themselves
    return list(rest.pop("enum")) if "enum" in rest else [rest.pop("const")]


def _text(rest: dict[str, Any]) -> str:
    told = []
    least, most, pattern = rest.pop("minLength", None), rest.pop("maxLength", None), rest.pop("pattern", None)
    if most is not None:
        told.append(f"{least or 0} to {most} characters")
    elif least is not None:
        told.append("not empty" if least == 1 else f"at least {least} characters")
    if pattern is not None:
        told.append(_PATTERNS.get(pattern) or f"matching {code(pattern)}")
    if "format" in rest:
        told.append({"date-time": "date and time"}[rest.pop("format")])
    return "".join(f", {one}" for one in told)


def _range(rest: dict[str, Any]) -> str:
    least, above, most = rest.pop("minimum", None), rest.pop("exclusiveMinimum", None), rest.pop("maximum", None)
    low = f"from {least:,}" if least is not None else f"above {above:,}" if above is not None else ""
    high = f"to {most:,}" if most is not None else ""
    return f", {' '.join(one for one in (low, high) if one)}" if low or high else ""


def _or(choices: list[str]) -> str:
    return _joined(choices, "or")


def _and(choices: list[str]) -> str:
    return _joined(choices, "and")


def _joined(choices: list[str], word: str) -> str:
    between = "; " if any("," in one for one in choices) else ", "
    return f" {word} ".join([between.join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)
