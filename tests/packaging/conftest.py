"""The sdist and the wheel from it, built once in environments of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 1_200


@dataclass(frozen=True, slots=True)
class Built:
    """What was built.

    Attributes:
        sdist: the archive.
        wheel: built from it, after it was unpacked elsewhere.
        source: where it was unpacked.
    """

    sdist: Path
    wheel: Path
    source: Path

    def metadata(self, name: str) -> str:
        """Return a file of the wheel's `.dist-info`."""
        with zipfile.ZipFile(self.wheel) as archive:
            (found,) = (one for one in archive.namelist() if one.partition("/")[2] == name and ".dist-info/" in one)
            return archive.read(found).decode()

    def names(self) -> set[str]:
        """Return the names of the wheel's files; `.dist-info` stands for that folder."""
        with zipfile.ZipFile(self.wheel) as archive:
            return {
                f".dist-info/{one.partition('/')[2]}" if one.partition("/")[0].endswith(".dist-info") else one
                for one in archive.namelist()
            }


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let whichever test comes first wait for the compiler, which may share the machine."""
    for item in items:
        item.add_marker(pytest.mark.timeout(2 * BUILD_SECONDS))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build as who publishes does, and as pip does where there is no wheel: isolated, from the unpacked sdist."""
    folder = tmp_path_factory.mktemp("dist")
    env = {**os.environ, "PYTHONPATH": "", "CMAKE_BUILD_PARALLEL_LEVEL": "2"}
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT, cwd=folder, env=env)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source, cwd=folder, env=env)
    (wheel,) = folder.glob("*.whl")
    return Built(sdist, wheel, source)
