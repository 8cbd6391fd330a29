"""How the ranks meet: a torch Store on the task's elected Redis pair, and gloo on a given address.

gloo uses the store only while a group forms. Afterwards the Redis servers may end and training goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from torch._C._distributed_c10d import ProcessGroupGloo, Store

from mlnet.errors import StoreError, TrainingError
from mlnet.store import KeyStore
from mlnet.training.gloo_tunnel import GlooTunnelClient
from mlnet.training.ipc import TrainJob

BACKEND = "mlnet"
_GLOO_THREADS = 2
"""torch's own default; the options object that a custom backend makes has none."""


class RendezvousStore(Store):
    """A ``torch.distributed.Store`` on a :class:`~mlnet.store.KeyStore`.

    torch calls methods by their C++ names from C++ and by their Python names from Python, so both exist. The
    errors are those that torch expects of a store.

    Args:
        keys: holds the values.
        timeout: how long a value is waited for, unless a call or :meth:`set_timeout` says otherwise.
        gloo_tunnel: opens the tunnels to ranks that are not reached directly; None for none.
    """

    _alive: list[RendezvousStore] = []  # noqa: RUF012 - shared by all instances, on purpose
    """Every store that was made. torch's C++ half keeps no reference to the Python half, which must outlive
    it, so no store is ever collected."""

    def __init__(
        self, keys: KeyStore, timeout: timedelta, gloo_tunnel: GlooTunnelClient | None = None
    ) -> None:
        super().__init__()
        self._keys, self._gloo_tunnel = keys, gloo_tunnel
        self.set_timeout(timeout)
        RendezvousStore._alive.append(self)

    def set(self, key: str, value: str | bytes) -> None:
        """Set a key to a value."""
        octets = _octets(value)
        if self._gloo_tunnel is not None:
            self._gloo_tunnel.publish(octets)
        self._keys.set(key, octets)

    def get(self, key: str) -> bytes:
        """A key's value, once there is one."""
        return self.multi_get([key])[0]

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        """Return once all keys have a value."""
        self._read(keys, timeout)

    def add(self, key: str, value: int) -> int:
        """Add to a key's number; return the sum."""
        return self._keys.add(key, value)

    def check(self, keys: Sequence[str]) -> bool:
        """Whether all keys have a value now."""
        return self._keys.check(keys)

    def compare_set(self, key: str, expected: str | bytes, desired: str | bytes) -> bytes:
        """Set a key to a value if it has the expected one; return the value that it has afterwards."""
        return self._keys.compare_set(key, _octets(expected), _octets(desired))

    def delete_key(self, key: str) -> bool:
        """Delete a key; return whether it was there."""
        return self._keys.delete(key)

    def num_keys(self) -> int:
        """How many keys there are."""
        return self._keys.num_keys()

    def append(self, key: str, value: str | bytes) -> None:
        """Add bytes to the end of a key's value."""
        self._keys.append(key, _octets(value))

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """The values of keys, once all have one."""
        return self._read(keys, None)

    def multi_set(self, keys: Sequence[str], values: Sequence[str | bytes]) -> None:
        """Set each key to its value, all of them atomically."""
        self._keys.multi_set(keys, [_octets(value) for value in values])

    def has_extended_api(self) -> bool:
        """Whether there are append, multi_get and multi_set."""
        return True

    def clone(self) -> RendezvousStore:
        """Another store of the same keys."""
        return RendezvousStore(self._keys, self._timeout, self._gloo_tunnel)

    @property
    def _timeout(self) -> timedelta:
        # A PrefixStore's set_timeout changes the C++ half only, so the value is read from there.
        timeout: timedelta = Store.timeout.fget(self)  # type: ignore[attr-defined]
        return timeout

    def _read(self, keys: Sequence[str], timeout: timedelta | None) -> list[bytes]:
        seconds = (timeout or self._timeout).total_seconds()
        try:
            values = self._keys.multi_get(keys, seconds)
        except TimeoutError as error:
            raise dist.DistStoreError(f"wait timeout after {seconds:g} s: {error}") from error
        if self._gloo_tunnel is not None:
            self._gloo_tunnel.read(values)
        return values

    compareSet = compare_set  # noqa: N815
    deleteKey = delete_key  # noqa: N815
    getNumKeys = num_keys  # noqa: N815
    multiGet = multi_get  # noqa: N815
    multiSet = multi_set  # noqa: N815
    hasExtendedApi = has_extended_api  # noqa: N815


def join(job: TrainJob) -> None:
    """Make the default process group, in which this process is a rank among the others.

    Args:
        job: this process's rank, where the ranks meet, and the timeouts.

    Raises:
        TrainingError: not all ranks came in time, or this machine cannot listen on the address of the job.
        StoreError: the task's Redis servers cannot be reached.
    """
    rendezvous, step = timedelta(seconds=job.rendezvous_timeout_s), timedelta(seconds=job.step_timeout_s)

    def create(store: Store, rank: int, world: int, timeout: timedelta) -> ProcessGroupGloo:
        options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._devices = [ProcessGroupGloo.create_device(hostname=job.host)]
        options._threads = _GLOO_THREADS
        # Two timeouts: ranks may wait long for each other, while in training a silent rank is to be noticed
        # soon. The default of both is 30 minutes.
        options._timeout = rendezvous
        group = ProcessGroupGloo(store, rank, world, options)
        group._set_default_timeout(timeout)
        return group

    if BACKEND not in dist.Backend.backend_list:
        dist.Backend.register_backend(BACKEND, create, devices=["cpu"])
    keys = KeyStore([Path(path) for path in job.endpoints], job.namespace, job.rendezvous_timeout_s)
    gloo_tunnel = None
    if job.gloo_tunnel:
        gloo_tunnel = GlooTunnelClient(Path(job.gloo_tunnel), job.task, job.attempt, job.rank, job.world)
    store = RendezvousStore(keys, rendezvous, gloo_tunnel)
    try:
        dist.init_process_group(BACKEND, store=store, rank=job.rank, world_size=job.world, timeout=step)
    except StoreError:
        raise
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the {job.world} members did not meet within {job.rendezvous_timeout_s:g} s"
            f" (this one listens on {job.host}): {str(error).splitlines()[0][:300]};"
            " let their firewalls pass TCP, or start the nodes with --tunnel-training"
        ) from error


def _octets(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
