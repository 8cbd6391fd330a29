"""The tasks of other clients that gather nodes at the same time, as one client hears of them by gossip.

A client that knows of them takes its share of the nodes, so that whoever comes second finds some free.
"""

from __future__ import annotations

from collections import OrderedDict

from mlnet.errors import TaskError
from mlnet.protocol.wire.message_types import MESSAGE_TYPES, Role, is_gossiped
from mlnet.protocol.wire.messages import Message, NewMlTask
from mlnet.task import definition as task_definition

MAX_RIVALS = 64
"""Clients that are remembered. Beyond :data:`MAX_SHARES` their number makes no difference to a share."""
MAX_SHARES = 8
"""Parts, at most, into which a client divides the nodes. Announcements cost nothing: without a bound, whoever
makes up clients would starve the others."""


class Rivals:
    """Announcements of others that are open.

    Args:
        me: this client's peer id.
    """

    def __init__(self, me: str) -> None:
        self._me = me
        self._open: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def heard(self, message: Message, now: int) -> bool:
        """Take in a message of another task; whether it changed how many clients wait.

        One client counts once, whatever it announces.
        """
        before = self.count(now)
        body, sender = message.body, message.sender
        if isinstance(body, NewMlTask):
            if sender != self._me and sender not in self._open and len(self._open) < MAX_RIVALS:
                try:
                    definition = task_definition.load_heard(body.definition)
                except TaskError:
                    return False
                self._open[sender] = (message.task, now + definition.cluster.waiting_period_ms)
        elif (
            is_gossiped(message)
            and MESSAGE_TYPES[message.type].senders is Role.CLIENT
            and self._open.get(sender, ("", 0))[0] == message.task
        ):
            del self._open[sender]
        return self.count(now) != before

    def count(self, now: int) -> int:
        """Clients that gather nodes at a time (ms)."""
        for sender in [sender for sender, (_, until) in self._open.items() if until <= now]:
            del self._open[sender]
        return len(self._open)

    def next_end(self) -> int:
        """When (ms) the first of them stops gathering; 0 when there is none."""
        return min((until for _, until in self._open.values()), default=0)


def share(answers: int, others: int, least: int, most: int) -> int:
    """How many of those who answered a task takes while other clients wait for nodes, too.

    Args:
        answers: nodes that could take part.
        others: clients that gather nodes at the same time.
        least: ``min-nodes``.
        most: ``max-nodes``.
    """
    parts = min(others + 1, MAX_SHARES)
    return min(most, max(least, -(-answers // parts)))
