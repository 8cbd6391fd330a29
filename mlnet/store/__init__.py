"""The Redis servers of a task: started, pinged, replicated, and reached through sockets that log in.

It imports util only. Begin with :mod:`mlnet.store.server`.
"""

from mlnet.store.binary import check_version, find_binary, version
from mlnet.store.keystore import KeyStore
from mlnet.store.ping import ping
from mlnet.store.progress import Progress, ProgressLog
from mlnet.store.server import RedisServer, free_ports

__all__ = [
    "KeyStore",
    "Progress",
    "ProgressLog",
    "RedisServer",
    "check_version",
    "find_binary",
    "free_ports",
    "ping",
    "version",
]
