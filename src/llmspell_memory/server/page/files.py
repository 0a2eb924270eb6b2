"""The page's files, and the headers under which a browser runs nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Nothing from another host, no script but our files, in nobody's frame; a browser asks each time if it is changed."""


def page_routes() -> list[Route]:
    """Return the routes of the page's files, which are read once; they hold no data, so they need no key."""
    files = {
        path.name: (path.read_bytes(), _KINDS[path.suffix])
        for path in sorted(Path(__file__).with_name("static").iterdir())
        if path.suffix in _KINDS
    }
    tags = {name: f'"{hashlib.sha256(content).hexdigest()[:32]}"' for name, (content, _) in files.items()}

    async def file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        request.scope["llmspell"]["route"] = "/page" if name in files else "(none)"
        if name not in files:
            raise HTTPException(404)
        headers = {**HEADERS, "ETag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        content, kind = files[name]
        return Response(content, headers=headers, media_type=kind)

    return [Route("/", file, methods=["GET"]), Route("/page/{name}", file, methods=["GET"])]
