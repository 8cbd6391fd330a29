"""Who may begin a handshake: rates, bans and room, on a clock of our own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from libp2p.io.exceptions import IncompleteReadError
from libp2p.protocol_muxer.exceptions import MultiselectError

from mlnet.net.addresses import block
from mlnet.net.transport.admission import KNOWN_SECONDS, Admission, Failure, Refusal
from mlnet.net.types import OWN_ADDRESS_FACTOR, Limits

STRANGER, OWN = "192.0.2.7", "127.0.0.1"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def silent() -> int:
    return 0


def run(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_a_network_of_ipv6_counts_as_one_address(ip: str, expected: str) -> None:
    assert block(ip) == expected


def test_an_address_may_knock_at_its_rate_and_others_do_not_pay_for_it() -> None:
    clock = Clock()
    admission = Admission(Limits(handshakes_per_second=5.0), clock)
    assert [admission.refuses(STRANGER) for _ in range(25)] == [None] * 20 + [Refusal.RATE] * 5
    assert admission.refuses("192.0.2.8") is None
    assert [admission.refuses(OWN) for _ in range(20 * OWN_ADDRESS_FACTOR + 1)][-2:] == [None, Refusal.RATE]
    clock.now += 1.0
    assert [admission.refuses(STRANGER) for _ in range(6)] == [None] * 5 + [Refusal.RATE]
    assert admission.refused[Refusal.RATE] == 7


def test_an_address_is_shut_out_at_the_limit_until_the_ban_expires() -> None:
    clock = Clock()
    admission = Admission(Limits(address_score=3.0, ban_seconds=60.0), clock)
    for _ in range(2):
        admission.blame(STRANGER, 1.0)
    assert admission.refuses(STRANGER) is None
    admission.blame(STRANGER, 1.0)
    assert [admission.refuses(STRANGER) for _ in range(3)] == [Refusal.BANNED] * 3
    assert (admission.banned, admission.bans, admission.refused[Refusal.BANNED]) == (1, 1, 3)
    assert admission.refuses("192.0.2.8") is None
    clock.now += 59.9
    assert admission.refuses(STRANGER) is Refusal.BANNED
    clock.now += 0.2
    assert admission.refuses(STRANGER) is None
    assert admission.banned == 0


def test_an_address_with_a_peer_behind_it_is_slowed_down_only() -> None:
    clock = Clock()
    admission = Admission(Limits(address_score=1.0, ban_seconds=10_000.0), clock)
    admission.on_connection(STRANGER, True)
    admission.blame(STRANGER, 1.0)
    assert [admission.refuses(STRANGER) for _ in range(6)] == [None] * 4 + [Refusal.BANNED] * 2
    admission.on_connection(STRANGER, False)
    clock.now += 1.0
    assert [admission.refuses(STRANGER) for _ in range(3)] == [None] * 2 + [Refusal.BANNED]
    clock.now += KNOWN_SECONDS
    assert admission.refuses(STRANGER) is Refusal.BANNED


def test_this_machine_is_slowed_down_only_and_later_than_others() -> None:
    clock = Clock()
    admission = Admission(Limits(address_score=1.0, handshakes_per_second=1000.0), clock)
    for _ in range(OWN_ADDRESS_FACTOR - 1):
        admission.blame(OWN, 1.0)
    assert admission.banned == 0
    admission.blame(OWN, 1.0)
    assert admission.banned == 1
    answers = [admission.refuses(OWN) for _ in range(20)]
    assert answers == [None] * 16 + [Refusal.BANNED] * 4
    clock.now += 0.5
    assert [admission.refuses(OWN) for _ in range(5)] == [None] * 4 + [Refusal.BANNED]


def test_points_of_an_address_fade() -> None:
    clock = Clock()
    admission = Admission(Limits(address_score=3.0, address_fade_seconds=6.0), clock)
    for _ in range(50):
        admission.blame(STRANGER, 1.0)
        clock.now += 6.0
    assert admission.bans == 0


def test_what_a_handshake_raises_is_scored() -> None:
    async def test() -> None:
        admission = Admission(Limits(address_score=100.0), Clock())
        with pytest.raises(MultiselectError), admission.handshake(STRANGER, silent):
            raise MultiselectError("HTTP")
        with pytest.raises(MultiselectError), admission.handshake(STRANGER, silent):
            raise MultiselectError("no line") from IncompleteReadError("it is gone")
        with admission.handshake(STRANGER, silent):
            pass
        assert admission.failed == {Failure.GARBAGE: 1, Failure.GONE: 1}

    run(test)


def test_a_handshake_that_never_ends_is_ended_and_scored() -> None:
    async def test() -> None:
        admission = Admission(Limits(handshake_seconds=5.0, address_score=2.0), Clock())
        for _ in range(2):
            with admission.handshake(STRANGER, silent):
                await trio.sleep_forever()
        assert trio.current_time() == pytest.approx(10.0)
        assert admission.failed == {Failure.EXPIRED: 2}
        assert admission.refuses(STRANGER) is Refusal.BANNED
        assert admission.under_way == 0

    run(test)


def test_a_handshake_expires_after_ten_seconds_at_most() -> None:
    assert Limits().handshake_seconds <= 10.0


@pytest.mark.parametrize("addresses", [1, 300], ids=["one address", "many addresses"])
def test_idle_handshakes_make_room_for_a_newcomer(addresses: int) -> None:
    async def test() -> None:
        admission = Admission(Limits(handshakes=8, address_score=10_000.0, handshake_seconds=1e7), Clock())
        finished = []

        async def idle(number: int) -> None:
            with admission.handshake(f"10.0.{number % addresses // 256}.{number % addresses % 256}", silent):
                await trio.sleep_forever()

        async def honest() -> None:
            with admission.handshake(STRANGER, silent):
                await trio.lowlevel.checkpoint()
                finished.append(True)

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(idle, number)
            await trio.testing.wait_all_tasks_blocked()
            assert admission.under_way == 8
            assert admission.failed[Failure.EVICTED] == 292
            nursery.start_soon(honest)
            await trio.testing.wait_all_tasks_blocked()
            assert finished == [True]
            assert admission.failed[Failure.EVICTED] == 293
            nursery.cancel_scope.cancel()

    run(test)


def test_the_busiest_address_makes_room() -> None:
    async def test() -> None:
        admission = Admission(Limits(handshakes=4, address_score=10_000.0, handshake_seconds=1e7), Clock())
        evicted: list[str] = []

        async def idle(ip: str) -> None:
            with admission.handshake(ip, silent) as attempt:
                await trio.Event().wait()
            if attempt.failure is Failure.EVICTED:
                evicted.append(ip)

        async with trio.open_nursery() as nursery:
            for ip in ("10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.2", "10.0.0.2"):
                nursery.start_soon(idle, ip)
                await trio.testing.wait_all_tasks_blocked()
            assert evicted == ["10.0.0.2", "10.0.0.2"]
            nursery.cancel_scope.cancel()

    run(test)


def test_who_has_said_something_stays_longer_than_who_is_silent() -> None:
    async def test() -> None:
        admission = Admission(Limits(handshakes=4, address_score=10_000.0, handshake_seconds=1e7), Clock())
        outcomes = []

        async def one(ip: str, heard: int) -> None:
            with admission.handshake(ip, lambda: heard) as attempt:
                await trio.Event().wait()
            outcomes.append((ip, attempt.failure))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, STRANGER, 1)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(100):
                nursery.start_soon(one, f"10.0.0.{number}", 0)
                await trio.testing.wait_all_tasks_blocked()
            assert len(outcomes) == 97
            assert STRANGER not in dict(outcomes)
            nursery.cancel_scope.cancel()

    run(test)


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    admission = Admission(Limits(address_score=1.0), Clock())
    for number in range(10_000):
        ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        admission.blame(ip, 1.0)
        admission.refuses(ip)
        admission.on_connection(ip, True)
        admission.on_connection(ip, False)
    sizes = [len(value) for value in vars(admission).values() if hasattr(value, "__len__")]
    assert max(sizes) <= 4096
