"""Who gets in: names, origins, tokens; and what every answer carries."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from mlnet.dashboard.gate import HEADERS, MAX_FORM, Gate, is_local
from mlnet.util.hosts import parse_ip

TOKEN = "the token"
HOST = "127.0.0.1:8080"
BEARER = {"authorization": f"Bearer {TOKEN}"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


async def behind(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    response: Response = JSONResponse({"body": body.decode()})
    await response(scope, receive, send)


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    response = Response("no", 500, {"x-frame-options": "ALLOW"})
    await response(scope, receive, send)


@pytest.fixture
async def caller() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Gate(behind, TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
        yield client


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8080", "127.0.0.1", "localhost:9000", "LOCALHOST", "127.8.9.1:80", "[::1]:8080", "[::1]"],
)
async def test_loopback_names_are_let_in(caller: httpx.AsyncClient, host: str) -> None:
    assert (await caller.get("/", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example:8080",
            "127.0.0.1.evil.example:8080",
            "localhost.evil.example",
            "evil.example@127.0.0.1",
        ),
        *(
            "192.0.2.1:8080",
            "0.0.0.0:8080",
            "[::]:8080",
            "[2001:db8::1]",
            "127.1:8080",
            "2130706433",
            "0x7f.0.0.1",
        ),
        *(
            "",
            ":8080",
            "[127.0.0.1]",
            "::1",
            "::1:8080",
            "127.0.0.1:port",
            "127.0.0.1:",
            "localhost.",
            "[::1",
        ),
    ],
)
async def test_other_names_are_refused_also_with_the_token(caller: httpx.AsyncClient, host: str) -> None:
    for path in ("/", "/api/status"):
        response = await caller.get(path, headers={"host": host, **BEARER})
        assert response.status_code == 421


@given(st.text(max_size=30) | st.from_regex(r"(\d{1,3}\.){3}\d{1,3}(:\d{1,5})?", fullmatch=True))
def test_nothing_but_a_loopback_address_or_localhost_is_local(host: str) -> None:
    if is_local(host):
        name = host.rpartition(":")[0] if host.count(":") == 1 or "]:" in host else host
        ip = parse_ip(name.strip("[]"))
        assert name.lower() == "localhost" or (ip is not None and ip.is_loopback)


async def test_two_names_are_none() -> None:
    answers = []

    async def send(message: dict[str, object]) -> None:
        answers.append(message)

    headers = [(b"host", HOST.encode()), (b"host", b"evil.example")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    await Gate(behind, TOKEN)(scope, None, send)  # type: ignore[arg-type]
    assert answers[0]["status"] == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": f"http://{HOST}"}, 200),
        ({"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}, 200),
        ({}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": f"https://{HOST}"}, 403),
        ({"origin": "http://127.0.0.1:8081"}, 403),
        ({"origin": "http://localhost:8080"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
async def test_calls_of_other_sites_are_refused(
    caller: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    response = await caller.post("/api/tasks", headers={**headers, **BEARER}, content=b"{}")
    assert response.status_code == status


async def test_a_link_from_elsewhere_opens_the_page_and_reads_nothing(caller: httpx.AsyncClient) -> None:
    clicked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert (await caller.get("/", headers=clicked)).status_code == 200
    assert (await caller.get("/api/status", headers={**clicked, **BEARER})).status_code == 403


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN} ", "Basic dG9rZW4="]
)
async def test_without_the_token_nothing_of_the_node_is_read(
    caller: httpx.AsyncClient, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    response = await caller.get("/api/status", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "open the address that mlnet-node printed" in response.json()["message"]
    assert (await caller.get("/", headers=headers)).status_code == 200


async def test_the_form_of_a_download_carries_the_token(caller: httpx.AsyncClient) -> None:
    path = "/api/tasks/ab/model"
    right = await caller.post(path, data={"token": TOKEN})
    assert (right.status_code, right.json()) == (200, {"body": ""})
    for form in (
        b"token=wrong",
        b"",
        b"token=" + b"a" * MAX_FORM,
        b"\xff",
        b"a=1&b=2&c=3&d=4&token=the+token",
    ):
        assert (await caller.post(path, content=form, headers=FORM)).status_code == 401
    header_counts = {**FORM, "authorization": "Bearer wrong"}
    assert (await caller.post(path, content=b"token=the+token", headers=header_counts)).status_code == 401


@pytest.mark.parametrize("path", ["/", "/api/status"])
@pytest.mark.parametrize("host", [HOST, "evil.example"])
async def test_every_answer_has_the_headers(path: str, host: str) -> None:
    transport = httpx.ASGITransport(Gate(broken, TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        response = await client.get(path, headers={"host": host})
    for name, value in HEADERS:
        assert response.headers.get_list(name) == [value]


async def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(caller: httpx.AsyncClient) -> None:
    policy = (await caller.get("/")).headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert {rules[name] for name in ("script-src", "style-src", "connect-src", "form-action")} == {"'self'"}
    assert "unsafe" not in policy
    assert "http" not in policy
