from __future__ import annotations

import asyncio

from mlnet.net.sending.expiry import ExpiryQueue


class Keys:
    """Keys that go when they expire."""

    def __init__(self) -> None:
        self.there: set[int] = set()
        self.expired: list[int] = []
        self.changed = asyncio.Event()
        self.deadlines = ExpiryQueue(self.there, self._expire)

    def add(self, key: int, seconds: float) -> None:
        self.there.add(key)
        self.deadlines.add(key, seconds)

    def _expire(self, key: int) -> None:
        self.there.remove(key)
        self.expired.append(key)
        self.changed.set()

    async def until_expired(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.expired) < count:
                self.changed.clear()
                await self.changed.wait()


async def test_keys_expire_in_the_order_of_their_deadlines() -> None:
    keys = Keys()
    for key, seconds in ((1, 0.03), (2, 0.01), (3, 0.02), (4, 60.0)):
        keys.add(key, seconds)
    await keys.until_expired(3)
    assert keys.expired == [2, 3, 1]
    assert keys.there == {4}


async def test_nothing_expires_before_the_loop_has_its_turn() -> None:
    keys = Keys()
    keys.add(1, 0.0)
    assert keys.expired == []
    await keys.until_expired(1)


async def test_what_has_gone_does_not_expire() -> None:
    keys = Keys()
    keys.add(1, 0.0)
    keys.add(2, 0.01)
    keys.there.remove(1)
    await keys.until_expired(1)
    assert keys.expired == [2]


async def test_what_has_gone_is_forgotten_long_before_its_deadline() -> None:
    keys = Keys()
    for key in range(10_000):
        keys.add(key, 3600.0)
        keys.there.discard(key - 10)
    assert len(keys.deadlines) < 200


async def test_a_new_deadline_works_after_all_were_forgotten() -> None:
    keys = Keys()
    keys.add(1, 3600.0)
    keys.deadlines.clear()
    assert len(keys.deadlines) == 0
    keys.add(2, 0.0)
    await keys.until_expired(1)
    assert keys.expired == [2]
