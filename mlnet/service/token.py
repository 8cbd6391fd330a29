"""The token of the API: who has it is the node's owner, or speaks for him."""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import stat
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc

from mlnet.errors import ConfigError, Overloaded, StorageError, Unauthenticated
from mlnet.net.addresses import block
from mlnet.net.rates import REMEMBERED_PEERS, Clock, Recent, TokenBucket
from mlnet.service.callers import address_of
from mlnet.service.errors import refuse
from mlnet.util import files

logger = logging.getLogger(__name__)
FILE = "api.token"
"""In the node's data directory."""
_TOKEN = re.compile(r"[\w-]{32,256}", re.ASCII)
_LONGEST_FILE = 1024
WRONG_PER_SECOND = 5.0
"""Wrong tokens from one address that are answered with what to do; ten at once. A token of 256 bits cannot be
guessed at any rate: this bounds what the answers cost."""
LOG_SECONDS = 60.0
_HOW = (
    f"which is in {FILE} of its data directory; programs send it with every call as the metadata "
    "'authorization: Bearer TOKEN', commands take it as --token or MLNET_TOKEN"
)
MISSING = f"this address asks for the node's token, {_HOW}"
WRONG = f"this is not the node's token, {_HOW}"


def token_in(directory: Path) -> str:
    """The token of a node: made at the first start, kept for all others.

    Raises:
        ConfigError: what is there is no token, or others can read it.
        StorageError: it cannot be written.
    """
    path = directory / FILE
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_FILE).decode("ascii", "replace").strip()
            mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return _new(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {files.why(error)}") from error
    if mode & 0o077:
        raise ConfigError(
            f"other users can read {path}; run: chmod 600 {path}, or remove it: the next start makes one"
        )
    if not _TOKEN.fullmatch(text):
        raise ConfigError(
            f"{path} holds no token of 32 to 256 letters, digits, - and _; remove it: the next start makes it"
        )
    return text


def _new(path: Path) -> str:
    token = secrets.token_urlsafe(32)
    try:
        files.replace(path, f"{token}\n".encode())
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {files.why(error)}; free some space, or choose another --data-dir"
        ) from error
    return token


class TokenGuard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets calls with the token pass, and no others, whatever method they name.

    Args:
        token: of the node.
        clock: seconds.
    """

    def __init__(self, token: str, clock: Clock = time.monotonic) -> None:
        self._expected = token.encode()
        self._wrong: Recent[str, TokenBucket] = Recent(
            lambda: TokenBucket(WRONG_PER_SECOND, clock), REMEMBERED_PEERS
        )
        self._logged: Recent[str, TokenBucket] = Recent(
            lambda: TokenBucket(1 / LOG_SECONDS, clock, 1.0), REMEMBERED_PEERS
        )
        # It reads no request: a stranger's megabyte is not taken in before he is sent away.
        self._denial = grpc.stream_stream_rpc_method_handler(self._deny)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The handler for a call that has the token; for others one that refuses."""
        for sent in _sent(handler_call_details.invocation_metadata):
            if hmac.compare_digest(sent, self._expected):
                return await continuation(handler_call_details)
        return self._denial

    async def _deny(self, requests: object, context: Any) -> None:
        address = block(address_of(context))
        if self._logged[address].try_take():
            logger.warning("calls from %s have no token, or a wrong one; they are refused", address)
        if not self._wrong[address].try_take():
            wait = 1 / WRONG_PER_SECOND
            await refuse(context, Overloaded("too many calls without the token", retry_after=wait))
        await refuse(
            context, Unauthenticated(WRONG if any(_sent(context.invocation_metadata())) else MISSING)
        )


def _sent(metadata: Iterable[tuple[str, str | bytes]] | None) -> Iterator[bytes]:
    """The tokens of a call. The scheme may be written in any case (RFC 9110, 11.1)."""
    for key, value in metadata or ():
        if key == "authorization":
            scheme, _, token = (value.encode() if isinstance(value, str) else value).partition(b" ")
            if scheme.lower() == b"bearer":
                yield token.strip()
