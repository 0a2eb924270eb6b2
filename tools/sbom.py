"""What is compiled into the native modules beside our own code: its bill of materials, and its licences' texts.

    python tools/sbom.py --version 0.2.0 --robin-map FOLDER --to FOLDER

CMake runs it, and installs what it writes into the wheel's `.dist-info`: `sboms/llmspell-memory.cdx.json` (CycloneDX,
where PEP 770 has it) and `licenses/`. Versions and texts are those of the code that the compiler is given. There is no
time and no random number in them, so that the same sources give the same file.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

NAME: Final = "llmspell-memory"
WORDS_OF: Final = {
    "BSD-3-Clause": "Neither the name of the copyright holder",
    "MIT": "Permission is hereby granted, free of charge",
}
"""By what each licence is known: a version that has come under another one is to be noticed."""


@dataclass(frozen=True, slots=True)
class Part:
    """Code of others that is compiled in.

    Attributes:
        name: what it calls itself.
        version: of the sources used.
        purl: where it comes from, as a package URL.
        licence: its SPDX identifier.
        text: of the licence.
    """

    name: str
    version: str
    purl: str
    licence: str
    text: str

    def component(self) -> dict[str, Any]:
        """Return it as CycloneDX describes a component."""
        return _component(self.name, self.version, purl=self.purl, licence=self.licence)


def nanobind() -> Part:
    """Return the nanobind of this environment.

    Raises:
        SystemExit: it came without its licence, or under another one.
    """
    found = metadata.distribution("nanobind")
    texts = [path for path in found.files or () if path.name == "LICENSE" and ".dist-info" in str(path)]
    text = texts[0].read_text(encoding="utf-8") if texts else ""
    return _part("nanobind", found.version, purl="pkg:pypi/nanobind@{}", licence="BSD-3-Clause", text=text)


def robin_map(folder: Path) -> Part:
    """Return the robin-map that nanobind is compiled with.

    Args:
        folder: where the compiler finds its headers.

    Raises:
        SystemExit: there are none, or they stand under another licence.
    """
    source = "".join(
        path.read_text(encoding="utf-8") for path in sorted(folder.glob("tsl/robin_*.h"), key=lambda path: path.name)
    )
    version = ".".join(re.findall(r"#define TSL_RH_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", source))
    opening = re.search(r"/\*\*\n(.*?)\*/", source, re.DOTALL)
    text = re.sub(r"^ \* ?", "", opening[1], flags=re.MULTILINE).rstrip(" ") if opening else ""
    return _part("robin-map", version, purl="pkg:github/tessil/robin-map@v{}", licence="MIT", text=text)


def bill(version: str, parts: list[Part]) -> dict[str, Any]:
    """Return the bill of materials, as CycloneDX 1.6 has it."""
    whole = _component(NAME, version, purl=f"pkg:pypi/{NAME}@{version}", licence="Apache-2.0")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": whole},
        "components": [part.component() for part in parts],
        "dependencies": [
            {"ref": whole["bom-ref"], "dependsOn": [part.purl for part in parts]},
            *({"ref": part.purl} for part in parts),
        ],
    }


def write(folder: Path, version: str, parts: list[Part]) -> None:
    """Write the bill and the licences' texts below a folder, in place of what was there."""
    (folder / "sboms").mkdir(parents=True, exist_ok=True)
    content = json.dumps(bill(version, parts), indent=2) + "\n"
    (folder / "sboms" / f"{NAME}.cdx.json").write_text(content, encoding="utf-8")
    for part in parts:
        (folder / "licenses" / part.name).mkdir(parents=True, exist_ok=True)
        (folder / "licenses" / part.name / "LICENSE").write_text(part.text, encoding="utf-8")


def _component(name: str, version: str, *, purl: str, licence: str) -> dict[str, Any]:
    licences = [{"license": {"id": licence}}]
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "licenses": licences, "purl": purl}


def _part(name: str, version: str, *, purl: str, licence: str, text: str) -> Part:
    if not version or WORDS_OF[licence] not in " ".join(text.split()):
        raise SystemExit(
            f"{name} {version} has come without the text of the {licence} licence, which a wheel must carry; "
            "with --config-settings=cmake.define.WITH_SBOM=OFF it is built without, if you ship the text by other means"
        )
    return Part(name, version, purl.format(version), licence, text)


def main(arguments: list[str] | None = None) -> None:
    """Write what a wheel needs."""
    parser = argparse.ArgumentParser(description="Write the bill of materials and the licences of what is compiled in.")
    parser.add_argument("--version", required=True, help="of the wheel")
    parser.add_argument("--robin-map", type=Path, required=True, help="the folder of its headers")
    parser.add_argument("--to", type=Path, required=True, help="the folder to write into")
    given = parser.parse_args(arguments)
    write(given.to, given.version, [nanobind(), robin_map(given.robin_map)])


if __name__ == "__main__":
    main()
