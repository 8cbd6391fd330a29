"""The page as an ASGI application: what is served where."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from mlnet.dashboard.answers import failed
from mlnet.dashboard.gate import Gate
from mlnet.dashboard.nodes import NodeRoutes
from mlnet.dashboard.streams import Streams
from mlnet.dashboard.tasks import TaskRoutes
from mlnet.errors import MlnetError
from mlnet.sdk.connection import NodeConnection

STATIC = Path(__file__).with_name("static")
PAGES = ("/", "/tasks", "/tasks/{task}", "/submit")
"""Addresses of the one page, which shows what its address says."""
# A new version of mlnet brings new files under the same names: browsers ask each time whether theirs is it.
_FRESH = {"cache-control": "no-cache"}


class _Assets(StaticFiles):
    def file_response(self, *arguments: object, **more: object) -> Response:
        response = super().file_response(*arguments, **more)  # type: ignore[arg-type]
        response.headers.update(_FRESH)
        return response


def application(connection: NodeConnection, token: str, streams: Streams) -> ASGIApp:
    """The page, behind its gate.

    Args:
        connection: to the node that it shows.
        token: see :class:`~mlnet.dashboard.gate.Gate`.
        streams: counts those that follow tasks, and ends them.
    """

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=_FRESH)

    app = Starlette(
        routes=[
            *NodeRoutes(connection).routes,
            *TaskRoutes(connection, streams).routes,
            *(Route(path, page) for path in PAGES),
            Mount("/static", _Assets(directory=STATIC)),
        ],
        exception_handlers={MlnetError: failed},
    )
    return Gate(app, token)
