"""The configuration of a task's server, and its users' rights.

The TCP port is open to strangers, because members measure their distance by pinging it. So the ``default``
user is off: a stranger's PING is answered NOAUTH, and no command of a stranger is executed. The other users
have random passwords that never reach a disk or another machine; the server itself gets their hashes only, on
its standard input.

A replica executes whatever its master sends, whatever the ACL says (https://valkey.io/topics/acl/), and the
master belongs to another member, who may be hostile. So commands with which a master could do more than
change keys are disabled (an empty name) or renamed to a random name that only this node knows.

The settings are those of https://valkey.io/topics/valkey.conf/; Redis 7 knows all of them.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

ADMIN, STORE, REPLICA, PROGRESS = "admin", "store", "replica", "progress"
PURPOSES = {STORE: 256, REPLICA: 8, PROGRESS: 64}
"""The purposes of gates, and how many connections each may have at a time. Together they stay below
:data:`MAX_CLIENTS`, so that members never use up the connections of the administrator."""
MAX_CLIENTS = 1024
"""Connections of the server, including those of strangers at the open port. What exceeds it is refused at
once, whoever it is; see IDLE_TIMEOUT."""
MAX_BULK = (16 << 20) + (1 << 16)
"""Bytes of one argument: the largest value of the key store (keystore.MAX_VALUE), and some room. Redis'
default of 512 MB would let one command of a member fill the memory."""
IDLE_TIMEOUT = 300
"""Seconds of silence after which a client is dropped: strangers who connect and say nothing would otherwise
hold all of MAX_CLIENTS for ever. Blocked clients (XREAD BLOCK), replicas and masters do not count as idle."""

# The least that each purpose needs. A member can neither read the other keys nor see other clients.
RULES = {
    ADMIN: "+role +replicaof +function|load",
    # The second line is what functions.lua calls: a function runs with the rights of its caller.
    STORE: "~mlnet:{task}:* +ping +role +wait +exists +xread +xadd +fcall +fcall_ro +client|setinfo"
    " +xrevrange +hget +hset +del +scan",
    REPLICA: "+ping +replconf +psync",
    # Read only: progress is written by the trainers, as members of the store.
    PROGRESS: "~mlnet:{task}:*:progress +xread",
}

# Each of these reads or writes files, runs code, changes the configuration, stops the server or sends it
# elsewhere. Nobody here needs them, and a hostile master could send them to its replica.
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
# Needed by this node itself. Under a random name a master cannot replace our functions or redirect the
# replica.
RENAMED = ("FUNCTION", "REPLICAOF")


def _passwords() -> dict[str, str]:
    return {user: secrets.token_hex(32) for user in RULES}


@dataclass(frozen=True, repr=False)
class Settings:
    """The configuration of one server.

    Attributes:
        task: id of the task whose keys it holds.
        host: IP address of the open port; None for all addresses of both families.
        unix_socket: path of the socket, in its working directory.
        max_memory: bytes of data.
        passwords: by user.
        relay_password: its password, as user ``replica``, at the relay through which it reaches its master
            (gates.py); not the master's password.
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
            # The hyphen makes an address optional: the machine may lack IPv6.
            f"bind {self.host or '* -::*'}",
            # Protected mode would answer -DENIED instead of NOAUTH, and protects nothing here, since the
            # default user is off.
            "protected-mode no",
            # Relative to the working directory: a path may hold blanks or quotes that the file's syntax
            # cannot.
            f"unixsocket {self.unix_socket.name}",
            "unixsocketperm 700",
            "databases 1",
            "daemonize no",
            'logfile ""',
            "always-show-logo no",
            # Nothing on the disk: keys live as long as the task, and a replica is the second copy.
            'save ""',
            "appendonly no",
            f"maxclients {MAX_CLIENTS}",
            f"timeout {IDLE_TIMEOUT}",
            f"maxmemory {self.max_memory}",
            # A write fails when the memory is full; an evicted key would leave a rank waiting for ever.
            "maxmemory-policy noeviction",
            # The buffers of clients, which maxmemory does not count: pipelines that nobody reads, replies to
            # slow readers.
            f"maxmemory-clients {self.max_memory}",
            f"proto-max-bulk-len {MAX_BULK}",
            # Every refused command of a stranger is logged in memory (ACL LOG); the default keeps 128.
            "acllog-max-len 16",
            # The default waits 10 s for replicas on SIGTERM, longer than STOP_TIMEOUT.
            "shutdown-timeout 0",
            # The master waits that delay for further replicas before it sends the first byte: 5 s by default,
            # of the time in which a cluster forms; there is one replica only.
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            # Loads the master's data beside the old data, without a file. ADDRESS_SPACE (server.py) leaves
            # room for both.
            "repl-diskless-load swapdb",
            # A dead link is noticed after 15 s instead of 60. It must exceed the ping period by far, or a
            # busy master counts as dead.
            "repl-timeout 15",
            # Every second instead of every ten: replicate_from() waits for the first ping to know that the
            # link works.
            "repl-ping-replica-period 1",
            f"masteruser {REPLICA}",
            f"masterauth {self.relay_password}",
            # Checks every byte of the master's data while it is loaded; a crafted payload could crash the
            # server.
            "sanitize-dump-payload yes",
            # By default a replica lets its master decide about memory. This master may be hostile.
            "replica-ignore-maxmemory no",
            *(f'rename-command {name} ""' for name in DISABLED),
            *(f"rename-command {name} {secret}" for name, secret in self.names.items()),
            "user default off resetpass resetkeys resetchannels -@all",
        ]
        for user, rules in RULES.items():
            digest = hashlib.sha256(self.passwords[user].encode()).hexdigest()
            lines.append(f"user {user} on #{digest} resetchannels -@all {rules.format(task=self.task)}")
        return "\n".join(lines) + "\n"
