"""What every request must satisfy before a route sees it, and the headers of every answer."""

import asyncio
import re
from collections.abc import Callable

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from monitoring.metrics import Metrics
from serving.refusals import Refusal, problem

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
"""A body that trickles in slower than this holds a connection for nothing."""

CHALLENGE = {"WWW-Authenticate": "Bearer"}
"""What every 401 must carry."""

Admit = Callable[[Scope], None]
"""Raises Refusal for a caller who may not come in."""

LAST_KEY = re.compile(rb'"([a-z_]{1,32})"\s*:')

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

HEADERS = {
    # Scripts and styles from our own files only: text that a user or an item brings can never run.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Gate:
    """Host, content type and size, checked before a byte is parsed.

    Interview: Why check the Host header of an API that listens on loopback only?
        A page on the internet can point its own host name at 127.0.0.1 and then read our answers
        as its own origin (DNS rebinding); the Host header still carries its name. Demanding JSON
        for posts closes the other door: a foreign page's plain form cannot send it.
        Trade-off: behind a proxy or another name the list must grow; where the operator opens the
        API to a network, the check is off and the proxy is in charge.
        Shown by: tests/serving/test_gate.py::test_a_foreign_host_name_is_refused_on_loopback
    """

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, host: str, admit: Admit = lambda scope: None
    ) -> None:
        self.app, self.metrics, self.admit = app, metrics, admit
        self.hosts = LOOPBACK if host in {"localhost", "127.0.0.1", "::1"} else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "websocket":  # there are none, and none may come in past the checks
            await WebSocketClose()(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if 400 <= message["status"] < 500:
                    self.metrics.refused.labels(message["status"]).inc()
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            self.admit(scope)
            if scope["method"] in ("POST", "PUT", "PATCH"):
                _check_type(headers)
                receive = _replay(await _body(receive), receive)
        except Refusal as refusal:
            more = CHALLENGE if refusal.status == 401 else None
            response: JSONResponse = problem(refusal.status, refusal.field, refusal.message, more)
            await response(scope, receive, answer)
            return
        await self.app(scope, receive, answer)

    def _check_host(self, headers: Headers) -> None:
        if self.hosts is not None and _host_name(headers.get("host", "")) not in self.hosts:
            raise Refusal(
                400, "host", "this API answers to localhost; set SHORTLIST_HOST to open it"
            )


def _host_name(host: str) -> str:
    """Without the port; the brackets of an IPv6 address stay.

    Examples:
        >>> _host_name("[::1]:8000"), _host_name("LOCALHOST:8000"), _host_name("127.0.0.1")
        ('[::1]', 'localhost', '127.0.0.1')
    """
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


def _check_type(headers: Headers) -> None:
    """A post without a body (an action) has no type."""
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "content-type", "expected application/json")


async def _body(receive: Receive) -> bytes:
    """The whole body, or a refusal as soon as more has come than may."""
    body = bytearray()
    while True:
        try:
            message = await asyncio.wait_for(receive(), BODY_TIMEOUT_S)
        except TimeoutError:
            raise Refusal(408, "body", f"no more of it came for {BODY_TIMEOUT_S:.0f} s") from None
        if message["type"] == "http.disconnect":
            raise Refusal(400, "body", "the connection was closed before its end")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_long(bytes(body[:MAX_BODY_BYTES]))
        if not message.get("more_body", False):
            return bytes(body)


def _too_long(start: bytes) -> Refusal:
    """Names the field in which the body ran over; it is never parsed whole.

    Examples:
        >>> _too_long(b'{"k": 3, "user_id": "aaaa').field
        'user_id'
        >>> _too_long(b"aaaa").field
        'body'
    """
    keys = LAST_KEY.findall(start)
    field = keys[-1].decode() if keys else "body"
    message = f"the body may have {MAX_BODY_BYTES} bytes and runs over here; shorten it or send it in parts"
    return Refusal(413, field, message)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once and then what really comes: a disconnect."""
    pending = [body]

    async def again() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return again
