"""Who gets in, and what every answer tells the browser to keep to.

A page on a loopback address is within reach of every program of this machine, and of every web site that the
machine's user visits. Against the first stands a token, without which nothing but the empty page is served.
Against the others stand the name in ``Host``, which a site that rebinds its own name to a loopback address
cannot change, and ``Origin`` and ``Sec-Fetch-Site``, which say whose page a call comes from.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlnet.dashboard.answers import problem
from mlnet.util import hosts

API = "/api/"
"""Below it lies all that is of the node; the rest is the page, which is the same everywhere."""
FORM = "application/x-www-form-urlencoded"
MAX_FORM = 4096
"""Bytes of the form that carries a token."""
FORM_SECONDS = 10.0
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, nothing inline, and no text that becomes a script or HTML."""
HEADERS = (
    ("content-security-policy", POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    # no-referrer would make browsers send "Origin: null" with the forms of downloads.
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
)
"""Of every answer."""


class Gate:
    """Refuses requests that are not from the page itself, or lack the token.

    Args:
        app: what is behind it.
        token: that every request below :data:`API` must carry, as ``Authorization: Bearer`` or, for
            downloads, as the field ``token`` of a form.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            return  # no web sockets here; uvicorn refuses the handshake

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message["headers"] if pair[0].lower() not in _NAMES]
                message = {**message, "headers": [*kept, *_RAW]}
            await send(message)

        refusal = self._foreign(scope)
        if refusal is None and scope["path"].startswith(API):
            refusal, receive = await self._stranger(scope, receive)
        await (self._app if refusal is None else refusal)(scope, receive, guarded)

    def _foreign(self, scope: Scope) -> Response | None:
        """The answer to a request that another site has caused; None for one of our own."""
        named = _values(scope, b"host")
        if len(named) != 1 or not is_local(named[0]):
            return PlainTextResponse(
                "This page is served at loopback addresses only: open it at 127.0.0.1 or localhost.\n",
                HTTPStatus.MISDIRECTED_REQUEST,
            )
        origins, sites = _values(scope, b"origin"), _values(scope, b"sec-fetch-site")
        changing = scope["method"] not in ("GET", "HEAD") or scope["path"].startswith(API)
        wrong_origin = any(origin != f"http://{named[0]}" for origin in origins)
        wrong_site = changing and any(site not in ("same-origin", "none") for site in sites)
        if wrong_origin or wrong_site:
            return PlainTextResponse("Another web site has sent this request.\n", HTTPStatus.FORBIDDEN)
        return None

    async def _stranger(self, scope: Scope, receive: Receive) -> tuple[Response | None, Receive]:
        """The answer to a request without the token, and None for one that has it; and where the rest of the
        request comes from."""
        given = _values(scope, b"authorization")
        form = scope["method"] == "POST" and _values(scope, b"content-type")[:1] == [FORM]
        if not given and form:
            token, receive = await _token_of(receive), _after_form(receive)
        else:
            token = given[0].removeprefix("Bearer ") if len(given) == 1 else ""
        if hmac.compare_digest(token.encode(), self._token):
            return None, receive
        words = "the token is missing or wrong: open the address that mlnet-node printed when it started"
        headers = {"www-authenticate": "Bearer"}
        return problem(words, HTTPStatus.UNAUTHORIZED, headers=headers), receive


def is_local(host: str) -> bool:
    """Whether a ``Host`` header names this machine as no web site can: by a loopback address or localhost.

    The port may be any: that of a tunnel, such as ``ssh -L``, is another than ours.

    Example:
        >>> is_local("127.0.0.1:8080"), is_local("[::1]:1"), is_local("localhost"), is_local("example.org:80")
        (True, True, True, False)
    """
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name = host
    elif not (port.isascii() and port.isdecimal()):
        return False
    if name.startswith("[") and name.endswith("]"):
        return hosts.is_ipv6(name[1:-1]) and hosts.is_loopback(name[1:-1])
    return name.lower() == "localhost" or (":" not in name and hosts.is_loopback(name))


async def _token_of(receive: Receive) -> str:
    """The token in a form; empty where there is none, or the form is too long or too slow."""
    data = b""
    try:
        async with asyncio.timeout(FORM_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return ""
                data += message.get("body", b"")
                if len(data) > MAX_FORM:
                    return ""
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        return ""
    try:
        fields = parse_qs(data.decode(), max_num_fields=4)
    except ValueError:
        return ""
    return str(fields.get("token", [""])[0])


def _after_form(receive: Receive) -> Receive:
    """What is left of a request whose body was read: an empty one, and then whether the browser is gone."""
    ended = False

    async def rest() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        ended = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return rest


def _values(scope: Scope, name: bytes) -> Sequence[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


_RAW = [(name.encode(), value.encode()) for name, value in HEADERS]
_NAMES = {name for name, _ in _RAW}
