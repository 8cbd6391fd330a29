"""Which committee members become Redis master and slave: a Borda count over the matrix of measured pings.

Each row of the matrix ranks the members by their ping times to one of them, and the ranks are added (J.-C. de
Borda, 1781). Sums of
times would let one member decide the election with one exaggerated time; a rank moves the sum by at most the
size of the committee, and does not depend on how far away everybody is.

Of nine samples the lower median counts: a few that were delayed do not move it, and it is a time that was
measured. Of a pair's two directions the worse one counts, so that nobody looks closer than the other side
measures it to be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mlnet.kernels import borda, pingmatrix
from mlnet.protocol.wire.messages import PING_SAMPLES


class Election(NamedTuple):
    """The election, with what it follows from.

    Attributes:
        members: the committee by peer id; rows and columns of ``matrix``, index of ``points``.
        matrix: aggregated ping times, microseconds, -1 for unreachable.
        points: Borda half-points.
        order: peer ids, best first, the eligible before the others.
        ineligible: members whom more than half of the others cannot reach.
        master: empty when fewer than two are eligible.
        slave: likewise.
        reason: for people and transcripts.
    """

    members: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    points: tuple[int, ...]
    order: tuple[str, ...]
    ineligible: tuple[str, ...]
    master: str
    slave: str
    reason: str


def rank(pings: Mapping[str, Mapping[str, Sequence[int]]]) -> Election:
    """Elect master and slave from the times that each committee member measured to the others.

    Args:
        pings: by measuring member, then by measured member, samples in microseconds; members are its keys.

    Returns:
        The outcome; ``master`` and ``slave`` are empty when fewer than two members are eligible.
    """
    members = tuple(sorted(pings))
    samples = [[_row(pings[one].get(other, ())) for other in members] for one in members]
    matrix = pingmatrix.aggregate(samples)
    points, order = borda.rank_by_distance(matrix)
    size = len(members)
    rows = tuple(tuple(int(matrix[one, other]) for other in range(size)) for one in range(size))
    cut_off = {
        peer for peer, row in zip(members, rows, strict=True) if 2 * sum(time < 0 for time in row) > size - 1
    }
    ordered = [members[place] for place in order]
    eligible = [peer for peer in ordered if peer not in cut_off]
    ranked = (*eligible, *(peer for peer in ordered if peer in cut_off))
    common = (members, rows, tuple(int(point) for point in points), ranked, tuple(sorted(cut_off)))
    if len(eligible) < 2:
        return Election(
            *common, "", "", f"{len(eligible)} of {size} committee members can be reached; 2 are needed"
        )
    return Election(*common, eligible[0], eligible[1], "master and slave are the first two by Borda count")


def decision_digest(
    task: str,
    attempt: int,
    *,
    members: str,
    evidence: Iterable[str],
    committee: Sequence[str],
    nodes: Sequence[str],
    master: str,
    slave: str,
) -> str:
    """Identity of a decision: SHA-256 over what was decided and the envelopes (hashes) that it follows from.

    Two parties that agree on it have decided the same for the same reasons: equal results from different
    evidence would differ in an audit.

    Args:
        task: the task's id.
        attempt: of CLUSTER_MEMBERS.
        members: hash of the CLUSTER_MEMBERS envelope.
        evidence: hashes of the votes and measurements that were counted, in any order.
        committee: in ranking order.
        nodes: in training-rank order.
        master: peer id.
        slave: peer id.
    """
    decision = {
        "task": task,
        "attempt": attempt,
        "members": members,
        "evidence": sorted(evidence),
        "committee": list(committee),
        "nodes": list(nodes),
        "master": master,
        "slave": slave,
    }
    canonical = json.dumps(decision, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(b"mlnet-decision-1\0" + canonical.encode()).hexdigest()


def training_order(order: Sequence[str], members: Iterable[str]) -> tuple[str, ...]:
    """Ranks in training: the committee in its ranking, so that the master is rank 0, then the workers by peer
    id."""
    seated = set(order)
    return (*order, *sorted(peer for peer in members if peer not in seated))


def _row(samples: Sequence[int]) -> list[int]:
    kept = list(samples[:PING_SAMPLES])
    return kept + [-1] * (PING_SAMPLES - len(kept))
