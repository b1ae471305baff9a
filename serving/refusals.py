"""Every refusal is JSON, names the field, and repeats nothing else of what the caller sent."""

from collections.abc import Mapping

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from features.errors import FeaturesUnavailable, NotReady
from serving.schemas import MANY, ONE

MAX_FIELD_LENGTH = 80
_PLACES = frozenset({"body", "query", "path", "header", ONE, MANY})
"""First parts of pydantic's locations that are not names of fields."""

_FIELD_OF_STATUS = {400: "body", 404: "path", 405: "method"}


class Refusal(Exception):
    """A request that cannot be answered, with the status and the field to name.

    `retry_after_s` says when asking again may help; None = it will not, as it is.
    """

    def __init__(
        self, status: int, field: str, message: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.field, self.message = status, field, message
        self.headers = None if retry_after_s is None else {"Retry-After": str(retry_after_s)}


def problem(
    status: int, field: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """One refusal as a response."""
    return JSONResponse({"detail": [{"field": field, "message": message}]}, status, headers=headers)


def install(app: FastAPI) -> None:
    """Replace FastAPI's error bodies, which echo the input, by ours."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        detail = [
            {"field": field_of(e["loc"]), "message": _plain(str(e["msg"]))} for e in error.errors()
        ]
        return JSONResponse({"detail": detail[:20]}, 422)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return problem(error.status, error.field, error.message, error.headers)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        field = _FIELD_OF_STATUS.get(error.status_code, "request")
        return problem(error.status_code, field, str(error.detail), error.headers)

    @app.exception_handler(NotReady)
    async def not_ready(_: Request, error: NotReady) -> JSONResponse:
        return problem(503, "bundle", str(error), {"Retry-After": "1"})

    @app.exception_handler(FeaturesUnavailable)
    async def no_features(_: Request, error: FeaturesUnavailable) -> JSONResponse:
        return problem(503, "features", str(error), {"Retry-After": "1"})

    @app.exception_handler(Exception)
    async def mistake(request: Request, error: Exception) -> JSONResponse:
        structlog.get_logger().error("mistake", path=request.url.path, exc_info=error)
        return problem(500, "server", "our mistake; it is in the log")


def field_of(location: tuple[int | str, ...]) -> str:
    """`events.3.item_id` from pydantic's path; `body` where the whole body is meant.

    Examples:
        >>> field_of(("body", MANY, "events", 3, "item_id"))
        'events.3.item_id'
        >>> field_of(("body", 17))  # JSON that stops making sense at byte 17
        'body'
    """
    names = list(location)
    while names and names[0] in _PLACES:
        names.pop(0)
    if not names or isinstance(names[0], int):
        return str(location[0]) if location else "body"
    return _plain(".".join(map(str, names)))[:MAX_FIELD_LENGTH] or '""'  # a nameless field


def _plain(text: str) -> str:
    """Lone surrogates, which JSON may carry and UTF-8 may not, become question marks."""
    return text.encode("utf-8", "replace").decode()
