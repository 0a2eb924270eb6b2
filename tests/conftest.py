"""For all tests: nothing is timed that a neighbour may take the time of; the long form of campaigns, and their figures.

`pytest --torture` asks for the long form; the figures are shown at the end of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

FIGURES = "figures"
"""Name of the property of a report that holds them: reports come from whichever process ran the test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture", action="store_true", help="run campaigns of faults in their long form")


@pytest.fixture(scope="session")
def torture(request: pytest.FixtureRequest) -> bool:
    """Whether the long form is asked for."""
    return bool(request.config.getoption("--torture"))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Show a line at the end of the run: what a campaign counted and measured."""
    told = request.node.user_properties
    return lambda line: told.append((FIGURES, f"{request.node.name}: {line}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    calls = [one for of in terminalreporter.stats.values() for one in of if getattr(one, "when", None) == "call"]
    lines = [line for one in calls for name, line in one.user_properties if name == FIGURES]
    if lines:
        terminalreporter.section("campaigns")
        for line in lines:
            terminalreporter.write_line(line)
