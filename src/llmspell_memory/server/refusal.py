"""Refusals that the server makes itself, before the memory is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 (it is no failure of ours)
    """A request that is answered with a problem.

    Args:
        status: of the answer.
        detail: what is wrong with it, and what to do.
        name: the problem's type, where it means an error of the library's.
        headers: further ones of the answer.
    """

    def __init__(
        self, status: int, detail: str, *, name: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.name = name
        self.headers = dict(headers or {})
