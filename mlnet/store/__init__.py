"""The Redis servers of a task: started, pinged, replicated, and reached through sockets that log in."""

from mlnet.store.binary import find_binary
from mlnet.store.keystore import KeyStore
from mlnet.store.ping import ping
from mlnet.store.progress import Progress, ProgressLog
from mlnet.store.server import RedisServer

__all__ = ["KeyStore", "Progress", "ProgressLog", "RedisServer", "find_binary", "ping"]
