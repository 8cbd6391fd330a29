"""The clock of the machines, by clocks that the test owns, and whose clock is said to be off."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from mlnet.driver.peer_clocks import PeerClocks
from mlnet.util.clock import SLEW, Clock, Steps

NOON = 1_700_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE


@dataclass
class Time:
    """A machine's two clocks."""

    wall: int = NOON
    elapsed: int = 5_000

    def read_wall(self) -> int:
        return self.wall

    def read_elapsed(self) -> int:
        return self.elapsed

    def passes(self, milliseconds: int) -> None:
        self.wall += milliseconds
        self.elapsed += milliseconds


def made(time: Time) -> Clock:
    return Clock(time.read_wall, time.read_elapsed)


def test_sleep_counts_and_a_step_is_followed_slowly() -> None:
    time = Time()
    clock = made(time)
    time.passes(8 * HOUR)  # the lid was closed
    assert clock.now() == NOON + 8 * HOUR
    time.wall += HOUR
    assert clock.now() == NOON + 8 * HOUR
    time.passes(10 * MINUTE)
    assert clock.now() == NOON + 8 * HOUR + 10 * MINUTE + 10 * MINUTE // SLEW
    for _ in range(SLEW):
        time.passes(HOUR)
        clock.now()
    assert clock.now() == time.wall


def test_a_clock_that_nothing_depends_on_is_set_at_once() -> None:
    time = Time(wall=0)  # a machine without a battery, before NTP
    clock = made(time)
    time.wall = NOON
    assert clock.now() == 0
    clock.settle()
    assert clock.now() == NOON


@given(st.lists(st.tuples(st.integers(0, HOUR), st.integers(-(10**9), 10**9)), max_size=30))
def test_the_clock_never_goes_back_and_measures_within_a_twentieth(steps: list[tuple[int, int]]) -> None:
    time = Time()
    clock = made(time)
    for passed, step in steps:
        before = clock.now()
        time.passes(passed)
        time.wall += step
        shown = clock.now() - before
        assert passed - passed // SLEW - 1 <= shown <= passed + passed // SLEW + 1
        assert shown >= 0


def test_a_step_is_noticed_once_and_sleep_is_none() -> None:
    time = Time()
    steps = Steps(time.read_wall, time.read_elapsed)
    time.passes(HOUR)
    assert steps.look() == 0
    time.wall -= 12 * MINUTE
    assert steps.look() == -12 * MINUTE
    assert steps.look() == 0


def greeted(*ahead: int, wall: int = NOON) -> PeerClocks:
    clocks = PeerClocks()
    for number, one in enumerate(ahead):
        clocks.greeted(f"peer-{number}", f"10.0.0.{number}", wall + one, 5_000)
    return clocks


def test_most_clocks_decide_whose_is_off() -> None:
    ours = greeted(10 * MINUTE, 10 * MINUTE + 900, 10 * MINUTE - 800)
    assert "this machine's clock is 10 min behind the clocks of most of 3" in ours.own(NOON, 5_000)
    theirs = greeted(0, 40, -3 * HOUR)
    assert theirs.own(NOON, 5_000) == ""
    assert "peer peer-2 is 3 h behind this machine's, which agrees with most" in theirs.verdict(
        "peer-2", NOON, 5_000
    )
    assert theirs.verdict("peer-1", NOON, 5_000) == ""


def test_with_two_clocks_nobody_knows_which_is_right() -> None:
    two = greeted(10 * MINUTE)
    assert "two clocks cannot show which of them is wrong" in two.verdict("peer-0", NOON, 5_000)
    assert two.median(NOON, 5_000) == NOON


def test_a_clock_that_is_set_later_is_off_at_once_without_another_greeting() -> None:
    clocks = greeted(0, 0)
    assert "5 h ahead of" in clocks.own(NOON + 5 * HOUR, 5_000)


def test_identities_of_one_address_have_one_vote_and_are_bounded() -> None:
    clocks = greeted(0, 0)
    for number in range(1000):
        clocks.greeted(f"sybil-{number}", "10.9.9.9", NOON + HOUR, 5_000)
    assert clocks.of("sybil-1", 5_000) is None  # forgotten
    assert clocks.of("sybil-999", 6_000) == NOON + HOUR + 1_000
    clocks = greeted(0, 0)
    for number in range(100):
        clocks.greeted(f"sybil-{number}", "10.9.9.9", NOON + HOUR, 5_000)
    assert clocks.median(NOON, 5_000) == NOON
