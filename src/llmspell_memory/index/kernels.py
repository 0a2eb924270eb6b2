"""Which of the kernels that distances are computed with this machine has, and which of them is used."""

from __future__ import annotations

from llmspell_memory import _core


def kernel() -> str:
    """Return the name of the kernels in use, the quickest that the processor has."""
    return _core.kernel_name()


def kernels() -> list[str]:
    """Return the names of all that the processor has, the quickest first."""
    return _core.kernel_names()
