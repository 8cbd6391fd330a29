from collections.abc import Sequence
from typing import Final, Self

from typing_extensions import disjoint_base

STREAM: Final[int]
STREAM_ENDED: Final[int]
SESSION_ENDED: Final[int]

def use_sodium(seal: int, unseal: int) -> bool: ...
def use_crypto(addresses: Sequence[int]) -> bool: ...

@disjoint_base
class Reactor:
    def __new__(
        cls,
        *,
        max_window: int,
        max_streams: int,
        max_memory: int,
        session_memory: int,
        bytes_per_second: int,
        ping_seconds: float,
        ping_timeout: float,
    ) -> Self: ...
    @property
    def event_fd(self) -> int: ...
    def stop(self) -> None: ...
    def add(
        self,
        fd: int,
        is_initiator: bool,
        seal_key: bytes,
        sealed: int,
        open_key: bytes,
        opened: int,
        plain: bytes,
    ) -> int: ...
    def close(self, session: int, code: int) -> bool: ...
    def open(self, session: int) -> tuple[int, int]: ...
    def splice(self, session: int, stream: int, pair: int, socket: int) -> bool: ...
    def reset(self, session: int, stream: int) -> bool: ...
    def take(self) -> list[tuple[int, int, int, int, int]]: ...
    def counters(self) -> dict[str, int]: ...
