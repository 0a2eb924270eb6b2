"""The stubs of the native modules take the arguments that the modules take; `make types` compares the rest."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import llmspell_memory

ROOT = Path(llmspell_memory.__file__).parent


def stubbed(module: str) -> dict[str, list[str]]:
    """Return the parameters of each function and method that a stub describes, "=" after those that may be left out."""
    tree = ast.parse((ROOT / f"{module}.pyi").read_text(encoding="utf-8"))
    found = {}
    owners: list[ast.Module | ast.ClassDef] = [tree, *(one for one in tree.body if isinstance(one, ast.ClassDef))]
    for owner in owners:
        for node in owner.body:
            if isinstance(node, ast.FunctionDef):
                name = f"{owner.name}.{node.name}" if isinstance(owner, ast.ClassDef) else node.name
                everyone = [*("/" for _ in node.args.posonlyargs), *(one.arg for one in node.args.args)]
                plain = len(everyone) - len(node.args.defaults)
                found[name] = [f"{one}{'' if n < plain else '='}" for n, one in enumerate(everyone)]
    return found


def bound(module: str, name: str) -> list[str]:
    """Return the same as nanobind tells it of what was bound."""
    found = importlib.import_module(f"llmspell_memory.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    signature = re.sub(r"\[[^]]*\]", "", found.__nb_signature__[0][0])  # what stands in brackets are no parameters
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    parameters = re.findall(r"(\w+|/)(?::[^,=]*)?(=)?[^,]*(?:, |$)", inside)
    names = [f"{one}{'=' if default else ''}" for one, default in parameters]
    unnamed = names.index("/") if "/" in names else 0
    return ["/"] * unnamed + names[unnamed + bool(unnamed) :]


@pytest.mark.parametrize("module", ["_core", "_pages"])
def test_a_stub_takes_what_the_module_takes(module: str) -> None:
    """Names, order and defaults of parameters are those that were bound."""
    described = stubbed(module)
    assert described
    for name, parameters in described.items():
        assert bound(module, name) == parameters, name
