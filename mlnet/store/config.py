"""How a task's server is configured, and who may do what on it.

The ``default`` user is off: a stranger's PING is answered NOAUTH, and nothing that strangers send is carried
out. The other users have random passwords that no disk and no other machine ever sees; the server itself gets
their hashes, on its standard input.

A master is another member's and may be hostile, and no ACL restricts what it sends its replica. So the
commands with which it could do more than change keys have no name, or a random one.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

ADMIN, STORE, REPLICA, PROGRESS = "admin", "store", "replica", "progress"
PURPOSES = {STORE: 256, REPLICA: 8, PROGRESS: 64}
"""What a gate may be for, and its connections at a time."""
MAX_CLIENTS = 1024
MAX_BULK = (16 << 20) + (1 << 16)
"""Bytes of an argument: the largest value, and a little."""
IDLE_TIMEOUT = 300
"""Seconds without a word after which a client is dropped; it may be a stranger who fills the open port."""

RULES = {
    ADMIN: "+role +replicaof +function|load",
    # The second half is what functions.lua runs, for which the caller needs the right.
    STORE: "~mlnet:{task}:* +ping +role +wait +exists +xread +xadd +fcall +fcall_ro +client|setinfo"
    " +xrevrange +hget +hset +del +scan",
    REPLICA: "+ping +replconf +psync",
    PROGRESS: "~mlnet:{task}:*:progress +xread",
}

DISABLED = (
    *(
        "ACL",
        "BGREWRITEAOF",
        "BGSAVE",
        "CLUSTER",
        "CONFIG",
        "DEBUG",
        "EVAL",
        "EVALSHA",
        "EVALSHA_RO",
        "EVAL_RO",
        "FAILOVER",
    ),
    *("MIGRATE", "MODULE", "MONITOR", "SAVE", "SCRIPT", "SHUTDOWN", "SLAVEOF"),
)
RENAMED = ("FUNCTION", "REPLICAOF")


def _passwords() -> dict[str, str]:
    return {user: secrets.token_hex(32) for user in RULES}


@dataclass(frozen=True, repr=False)
class Settings:
    """The configuration of one server.

    Attributes:
        task: id whose keys it holds.
        host: IP address of the open port; None for all addresses of both families.
        unix_socket: path of the socket, in its working directory.
        max_memory: bytes of data.
        passwords: by user.
        relay_password: with which it logs in, as ``replica``, where it replicates from.
        names: of the renamed commands.
    """

    task: str
    host: str | None
    unix_socket: Path
    max_memory: int
    passwords: dict[str, str] = field(default_factory=_passwords)
    relay_password: str = field(default_factory=lambda: secrets.token_hex(32))
    names: dict[str, str] = field(default_factory=lambda: {name: secrets.token_hex(16) for name in RENAMED})

    def text(self, port: int) -> str:
        """The server's configuration file."""
        lines = [
            f"port {port}",
            # The hyphen: a machine that lacks this family will do without.
            f"bind {self.host or '* -::*'}",
            # It would answer something else than NOAUTH, and with the default user off it protects nothing.
            "protected-mode no",
            # A name in its working directory: a path may hold what its configuration cannot.
            f"unixsocket {self.unix_socket.name}",
            "unixsocketperm 700",
            "databases 1",
            "daemonize no",
            'logfile ""',
            "always-show-logo no",
            'save ""',
            "appendonly no",
            f"maxclients {MAX_CLIENTS}",
            f"timeout {IDLE_TIMEOUT}",
            f"maxmemory {self.max_memory}",
            "maxmemory-policy noeviction",
            f"maxmemory-clients {self.max_memory}",
            f"proto-max-bulk-len {MAX_BULK}",
            "acllog-max-len 16",
            "shutdown-timeout 0",
            # A replica waits for the delay before it gets its first byte.
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            "repl-diskless-load swapdb",
            "repl-timeout 15",
            "repl-ping-replica-period 1",
            f"masteruser {REPLICA}",
            f"masterauth {self.relay_password}",
            "sanitize-dump-payload yes",
            "replica-ignore-maxmemory no",
            *(f'rename-command {name} ""' for name in DISABLED),
            *(f"rename-command {name} {secret}" for name, secret in self.names.items()),
            "user default off resetpass resetkeys resetchannels -@all",
        ]
        for user, rules in RULES.items():
            digest = hashlib.sha256(self.passwords[user].encode()).hexdigest()
            lines.append(f"user {user} on #{digest} resetchannels -@all {rules.format(task=self.task)}")
        return "\n".join(lines) + "\n"
