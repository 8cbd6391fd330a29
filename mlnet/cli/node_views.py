"""What a node says of itself and its peers: ``mlnet-node status``, ``peers``, ``ping``."""

from __future__ import annotations

from datetime import UTC, datetime

from mlnet.cli.remote import Address, ask, print_document, show, table
from mlnet.sdk.records import NodeStatus, PeerInfo
from mlnet.util.files import mib
from mlnet.util.wording import TASK_LENGTH, clean, count, duration, short

MILLI = 1000


def status(address: Address, *, json: bool) -> None:
    """Show who a node is and what it does."""
    found = ask(address, lambda client: client.status())
    if json:
        print_document(found)
        return
    for line in described(found, datetime.now(UTC)):
        show(line)


def described(found: NodeStatus, now: datetime) -> list[str]:
    """A node in lines."""
    up = "" if found.started_at is None else f", up {duration((now - found.started_at).total_seconds())}"
    lines = [f"node {found.peer}, mlnet {found.version}{up}"]
    for place, address in enumerate(found.addresses):
        reached = "" if place else " (reached by a peer)" if found.reached else " (not reached by a peer yet)"
        lines.append(f"  listens at {address}{reached}")
    lines.append(f"  connected with {count(found.connected_peers, 'peer')}")
    lines.append(
        f"  offers each task {mib(found.memory)} of memory, {count(found.threads, 'thread')},"
        f" {mib(found.disk)} of disk"
    )
    lines.append(f"member of {len(found.memberships)} of {count(found.most_memberships, 'task')}")
    for one in found.memberships:
        waiting = f", waits for {clean(one.waiting)}" if one.waiting else ""
        lines.append(f"  {one.task[:TASK_LENGTH]}  {one.phase}{waiting}; client {short(one.client)}")
    lines.append(f"client of {count(len(found.tasks), 'task')}")
    for task in found.tasks:
        waiting = f", waits for {clean(task.waiting)}" if task.waiting else ""
        lines.append(f"  {task.id[:TASK_LENGTH]}  {task.phase}{waiting}")
    return lines


def peers(address: Address, *, connected_only: bool, json: bool) -> None:
    """Show the peers that a node knows."""
    found = ask(address, lambda client: client.peers(connected_only=connected_only))
    if json:
        print_document(found)
        return
    if not found:
        show("no peers; another machine joins with the line that `mlnet-node start` prints")
        return
    rows = table(
        "peer", "connected", "round trip", "clock ahead", "address", right=("round trip", "clock ahead")
    )
    for peer in found:
        rows.add_row(*_row(peer))
    show(rows)


def _row(peer: PeerInfo) -> tuple[str, ...]:
    round_trip = "" if peer.round_trip is None else f"{MILLI * peer.round_trip:.1f} ms"
    offset = "" if peer.clock_offset is None else f"{peer.clock_offset:+.1f} s"
    best = peer.addresses[0].partition("/p2p/")[0] if peer.addresses else ""
    more = f" and {len(peer.addresses) - 1} more" if len(peer.addresses) > 1 else ""
    return peer.id, "yes" if peer.connected else "no", round_trip, offset, clean(best) + more


def ping(address: Address, peer: str, times: int, *, json: bool) -> None:
    """Have a node ping a peer."""
    found = ask(address, lambda client: client.ping(peer, times))
    if json:
        print_document(found)
        return
    trips = [MILLI * trip for trip in found.round_trips]
    for trip in trips:
        show(f"{found.peer}  {trip:.2f} ms")
    if len(trips) > 1:
        mean = sum(trips) / len(trips)
        show(f"least {min(trips):.2f} ms, mean {mean:.2f} ms, most {max(trips):.2f} ms")
