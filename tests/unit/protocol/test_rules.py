"""The pure rules: committee, election, order of the segments, rewards."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnet.protocol.decisions import commit_reveal, committee, redis_election, rewards, segment_order
from mlnet.protocol.decisions.committee import Vote

PEERS = [f"peer{index:02}" for index in range(12)]
SECRET = b"s" * 32
SEALED = tuple(commit_reveal.commitment(SECRET, cycle, 1) for cycle in range(2))
HASHES = [hashlib.sha256(bytes([index])).hexdigest() for index in range(10)]


def votes(**cast: int) -> dict[str, Vote]:
    return {
        peer: Vote(1 if vote else 0, hashlib.sha256(f"{peer}{vote}".encode()).hexdigest())
        for peer, vote in cast.items()
    }


class TestCommittee:
    def test_enough_seats_need_no_vote(self) -> None:
        poll = committee.poll(["b", "a"], {}, seats=5, least=2)
        assert poll.committee == ("a", "b")
        assert not poll.voters

    def test_the_minority_stays(self) -> None:
        poll = committee.poll("abcde", {0: votes(a=1, b=1, c=0, d=0, e=0)}, seats=3, least=2)
        assert poll.committee == ("a", "b")
        assert poll.cycles[0].reason == "side 1 is the minority and stays"

    def test_a_unanimous_cycle_removes_nobody_and_another_vote_is_due(self) -> None:
        poll = committee.poll("abc", {0: votes(a=1, b=1, c=1)}, seats=2, least=2)
        assert poll.committee == ()
        assert poll.voters == ("a", "b", "c")
        assert poll.cycle == 1

    def test_a_minority_below_the_least_size_removes_nobody(self) -> None:
        poll = committee.poll("abcd", {0: votes(a=1, b=0, c=0, d=0)}, seats=3, least=2)
        assert poll.cycles[0].kept == ("a", "b", "c", "d")
        assert "too few" in poll.cycles[0].reason

    def test_a_tie_keeps_the_side_that_the_hash_names(self) -> None:
        cast = votes(a=1, b=0, c=1, d=0)
        side = committee.cycle_digest(vote.envelope for vote in cast.values())[-1] & 1
        poll = committee.poll("abcd", {0: cast}, seats=2, least=2)
        assert poll.committee == (("a", "c") if side else ("b", "d"))

    def test_after_eight_cycles_the_seats_are_filled_in_hash_order(self) -> None:
        cast = {cycle: votes(a=1, b=1, c=1) for cycle in range(8)}
        poll = committee.poll("abc", cast, seats=2, least=2)
        digest = committee.cycle_digest(vote.envelope for vote in cast[7].values())
        order = sorted("abc", key=lambda peer: hashlib.sha256(digest + peer.encode()).digest())
        assert poll.committee == tuple(sorted(order[:2]))
        assert len(poll.cycles) == 8

    def test_too_few_candidates_give_no_committee(self) -> None:
        poll = committee.poll("a", {}, seats=5, least=2)
        assert not poll.committee
        assert not poll.voters
        assert poll.reason == "1 node with an open port, the committee needs 2"

    def test_a_missing_vote_names_who_must_vote(self) -> None:
        poll = committee.poll("abc", {0: votes(a=1, b=0)}, seats=2, least=2)
        assert poll.voters == ("a", "b", "c")
        assert poll.cycle == 0

    @given(
        st.sets(st.sampled_from(PEERS), min_size=2),
        st.lists(st.integers(0, 2**12 - 1), min_size=8, max_size=8),
        st.integers(2, 6),
        st.integers(2, 6),
    )
    def test_with_all_votes_the_committee_is_within_its_bounds(
        self, candidates: set[str], masks: list[int], seats: int, least: int
    ) -> None:
        least = min(least, seats)
        cast = {
            cycle: votes(**{peer: mask >> PEERS.index(peer) & 1 for peer in candidates})
            for cycle, mask in enumerate(masks)
        }
        poll = committee.poll(candidates, cast, seats=seats, least=least)
        assert not poll.voters
        if len(candidates) < least:
            assert not poll.committee
        else:
            assert least <= len(poll.committee) <= seats
            assert set(poll.committee) <= candidates


class TestSealedVotes:
    def test_a_vote_opens_the_commitment_of_its_own_cycle_alone(self) -> None:
        sealed = (SEALED[0], commit_reveal.commitment(SECRET, 1, 0))
        assert commit_reveal.opens(SECRET.hex(), sealed, 0, 1)
        assert commit_reveal.opens(SECRET.hex(), sealed, 1, 0)
        assert not commit_reveal.opens(SECRET.hex(), sealed, 0, 0)
        assert not commit_reveal.opens(SECRET.hex(), sealed[::-1], 0, 1)
        assert not commit_reveal.opens((b"t" * 32).hex(), sealed, 0, 1)

    def test_what_was_not_committed_to_or_is_no_secret_opens_nothing(self) -> None:
        assert not commit_reveal.opens(SECRET.hex(), SEALED, 2, 1)
        assert not commit_reveal.opens(SECRET.hex(), (), 0, 1)
        assert not commit_reveal.opens("no hex", SEALED, 0, 1)


class TestElection:
    def test_the_closest_is_master_and_the_next_slave(self) -> None:
        near, far = (100,) * 9, (900,) * 9
        pings = {"a": {"b": near, "c": near}, "b": {"a": near, "c": far}, "c": {"a": near, "b": far}}
        ranking = redis_election.rank(pings)
        assert ranking.master == "a"
        assert ranking.slave == "b"
        assert ranking.matrix[1][2] == 900

    def test_the_worse_direction_counts(self) -> None:
        pings = {"a": {"b": (10,) * 9}, "b": {"a": (500,) * 9}}
        assert redis_election.rank(pings).matrix == ((0, 500), (500, 0))

    def test_a_member_that_most_cannot_reach_is_not_eligible(self) -> None:
        near = (100,) * 9
        pings: dict[str, dict[str, tuple[int, ...]]] = {
            "a": {"b": near, "c": near, "d": ()},
            "b": {"a": near, "c": near, "d": ()},
            "c": {"a": near, "b": near, "d": near},
            "d": {"a": near, "b": near, "c": near},
        }
        ranking = redis_election.rank(pings)
        assert ranking.ineligible == ("d",)
        assert ranking.order[-1] == "d"

    def test_nobody_reachable_elects_nobody(self) -> None:
        ranking = redis_election.rank({"a": {"b": ()}, "b": {"a": ()}})
        assert (ranking.master, ranking.slave) == ("", "")
        assert ranking.reason == "0 of 2 committee members can be reached; 2 are needed"

    def test_the_digest_depends_on_the_evidence_and_not_on_its_order(self) -> None:
        def digest(*evidence: str) -> str:
            return redis_election.decision_digest(
                "t", 1, members="m", evidence=evidence, committee="ab", nodes="ab", master="a", slave="b"
            )

        assert digest("x", "y") == digest("y", "x")
        assert digest("x", "y") != digest("x", "z")

    def test_ranks_begin_with_the_committee_in_its_ranking(self) -> None:
        assert redis_election.training_order(("c", "a"), "abcd") == ("c", "a", "b", "d")


class TestSegments:
    def test_a_ballot_opens_only_with_its_own_secret_and_ranking(self) -> None:
        secret = b"s" * 32
        ranking = segment_order.ballot(secret, HASHES)
        promise = segment_order.commitment(secret)
        assert segment_order.opens(secret.hex(), ranking, promise, HASHES)
        assert not segment_order.opens(secret.hex(), ranking[::-1], promise, HASHES)
        assert not segment_order.opens(
            (b"t" * 32).hex(), segment_order.ballot(b"t" * 32, HASHES), promise, HASHES
        )
        assert not segment_order.opens("no hex", ranking, promise, HASHES)

    def test_one_ballot_is_the_order(self) -> None:
        secret = b"s" * 32
        assert segment_order.order({"a": secret.hex()}, HASHES) == segment_order.ballot(secret, HASHES)

    @given(st.dictionaries(st.sampled_from(PEERS), st.binary(min_size=32, max_size=32), min_size=1))
    def test_the_order_is_a_permutation_that_does_not_depend_on_how_the_ballots_come(
        self, secrets: dict[str, bytes]
    ) -> None:
        told = {peer: secret.hex() for peer, secret in secrets.items()}
        order = segment_order.order(told, HASHES)
        assert sorted(order) == sorted(HASHES)
        assert segment_order.order(dict(reversed(told.items())), HASHES[::-1]) == order


class TestRewards:
    def test_nine_tenths_by_rows_and_one_tenth_to_the_committee(self) -> None:
        assert rewards.split(1000, {"a": 3, "b": 1}, {"a"}) == {"a": 775, "b": 225}

    def test_the_rest_goes_by_largest_remainder_then_by_peer_id(self) -> None:
        assert rewards.split(100, {"a": 1, "b": 1, "c": 1}, {"a", "b", "c"}) == {"a": 34, "b": 33, "c": 33}

    def test_without_a_committee_to_pay_the_rows_take_all(self) -> None:
        assert rewards.split(10, {"a": 1, "b": 4}, ()) == {"a": 2, "b": 8}

    def test_nothing_trained_cannot_be_shared_out(self) -> None:
        with pytest.raises(ValueError, match="no rows were trained"):
            rewards.split(10, {"a": 0}, {"a"})

    @given(
        st.integers(0, 10**18),
        st.dictionaries(st.sampled_from(PEERS), st.integers(0, 10**12), min_size=1),
        st.sets(st.sampled_from(PEERS)),
    )
    def test_the_parts_sum_to_the_payment(self, payment: int, rows: dict[str, int], seated: set[str]) -> None:
        rows["peer00"] = rows.get("peer00", 0) + 1
        split = rewards.split(payment, rows, seated)
        assert sum(split.values()) == payment
        assert min(split.values()) >= 0
        total, seats = sum(rows.values()), len(seated)
        for peer, part in split.items():
            by_rows = (
                9 * payment * rows.get(peer, 0) / (10 * total)
                if seats
                else payment * rows.get(peer, 0) / total
            )
            exact = by_rows + (payment / (10 * seats) if peer in seated else 0)
            assert abs(part - exact) <= max(1, exact * 1e-12)

    def test_settled_needs_more_than_half_of_the_committee_under_this_very_split(self) -> None:
        split = {"a": 1, "b": 2}
        assert not rewards.settled(split, {"a": split}, ["a", "b"])
        assert rewards.settled(split, {"a": split, "b": split}, ["a", "b"])
        assert not rewards.settled(split, {"a": split, "b": {"a": 2, "b": 1}}, ["a", "b"])
