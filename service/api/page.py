"""`GET /`: the live-caption page, and the files it is made of, under a strict content policy.

The files are few and small, so they are read once and answered from memory: no path of a caller's
ever reaches the disk.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

PAGE_FOLDER = Path(__file__).parents[1] / "web"
INDEX = "index.html"

CONTENT_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS: Mapping[str, str] = {
    # Scripts, styles and the stream come from here alone; a file to caption is played from memory.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self), display-capture=(self), camera=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Asked for anew each time, and answered 304: a new release never runs with old modules.
    "Cache-Control": "no-cache",
}

NOT_MODIFIED = 304


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is answered."""

    body: bytes
    content_type: str
    etag: str


def page_router(folder: Path = PAGE_FOLDER) -> APIRouter:
    """Read the page's files and make the routes."""
    files = read_page(folder)
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return _answer(files[INDEX], request)

    @router.api_route("/web/{name}", methods=["GET", "HEAD"])
    async def page_file(name: str, request: Request) -> Response:
        if name not in files:
            raise HTTPException(404, "expected a file of the page, got another name")
        return _answer(files[name], request)

    return router


def read_page(folder: Path) -> dict[str, PageFile]:
    """Read the files that the page is made of, by name."""
    files: dict[str, PageFile] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in CONTENT_TYPES:
            body = path.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            files[path.name] = PageFile(body, CONTENT_TYPES[path.suffix], etag)
    return files


def _answer(file: PageFile, request: Request) -> Response:
    headers = {**HEADERS, "ETag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=NOT_MODIFIED, headers=headers)
    return Response(file.body, headers=headers, media_type=file.content_type)
