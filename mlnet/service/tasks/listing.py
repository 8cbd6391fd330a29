"""Tasks by the beginning of their ids, and in pages. A token names the last task of a page, so that what is
submitted meanwhile moves nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import msgspec

from mlnet.errors import NotFound
from mlnet.service.tasks.hosted import HostedTask
from mlnet.service.tasks.refused import invalid
from mlnet.v1 import tasks_pb2 as pb

PAGE = 50
MAX_PAGE = 1000
MAX_PAGE_BYTES = 1 << 19
"""Tasks with many members are large, and an answer has at most a megabyte: a page ends earlier then."""
SHORTEST_ID = 4
"""Digits that name a task, at least."""
_DIGITS = frozenset("0123456789abcdef")


class _Token(msgspec.Struct, array_like=True, frozen=True):
    """Where the next page begins: after this task; and what was asked for."""

    created: int
    task: str
    asked: bytes


def page(tasks: Sequence[HostedTask], request: pb.ListRequest) -> pb.ListResponse:
    """One page.

    Args:
        tasks: all, by :attr:`~mlnet.service.tasks.records.TaskRecord.key`.
        request: what is asked for.

    Raises:
        ServiceError: the page token is none, or belongs to another question.
    """
    size = min(request.page_size or PAGE, MAX_PAGE)
    asked = _asked(request)
    end = len(tasks)
    if request.page_token:
        token = _read(request.page_token)
        if token.asked != asked:
            raise invalid("page_token: belongs to another question; the other fields must be as they were")
        end = bisect_left(tasks, (token.created, token.task), key=lambda task: task.record.key)
    since = _since(request)
    response = pb.ListResponse()
    last, room = (0, ""), MAX_PAGE_BYTES
    for task in reversed(tasks[:end]):
        if since is not None and task.record.created < since:
            break
        if request.states and task.state not in request.states:
            continue
        brief = task.brief()
        room -= brief.ByteSize()
        if response.tasks and (len(response.tasks) == size or room < 0):
            response.next_page_token = _written(_Token(*last, asked))
            break
        response.tasks.append(brief)
        last = task.record.key
    return response


def _since(request: pb.ListRequest) -> int | None:
    """The earliest time that is wanted, ms since 1970."""
    if not request.HasField("created_after"):
        return None
    try:
        return request.created_after.ToMilliseconds()
    except ValueError as error:
        raise invalid(
            "created_after: is no time from the year 1 to 9999, with 0 to 999999999 nanos"
        ) from error


def find(tasks: Mapping[str, HostedTask], task: str) -> HostedTask:
    """The task whose id begins so; see :meth:`mlnet.service.tasks.registry.Registry.find`."""
    if (found := tasks.get(task)) is not None:
        return found
    if len(task) < SHORTEST_ID or not _DIGITS.issuperset(task):
        raise invalid(f"task: write at least {SHORTEST_ID} digits of its id, 0 to 9 and a to f")
    matching = [hosted for name, hosted in tasks.items() if name.startswith(task)]
    if not matching:
        raise NotFound(f"this node has no task whose id begins with {task[:64]}")
    if len(matching) > 1:
        raise invalid(f"task: {len(matching)} tasks begin with {task}; write more of the id")
    return matching[0]


def _asked(request: pb.ListRequest) -> bytes:
    bare = pb.ListRequest(states=sorted(set(request.states)))
    if request.HasField("created_after"):
        bare.created_after.CopyFrom(request.created_after)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()[:8]


def _written(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).decode()


def _read(text: str) -> _Token:
    try:
        return msgspec.msgpack.decode(base64.urlsafe_b64decode(text.encode()), type=_Token)
    except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
        raise invalid("page_token: is none of this node's; begin again without one") from error
