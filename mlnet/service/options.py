"""How callers reach the API, as an operator says."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from mlnet.errors import ConfigError
from mlnet.util import files, hosts

OPTION = "--api"
HOW = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -keyout api.key "
    "-out api.crt -subj /CN={host} -addext subjectAltName={kind}:{host}"
)
"""The command that makes a key and a certificate which signs itself."""


@dataclass(frozen=True)
class ApiOptions:
    """Where the API listens beside its unix socket, and what it asks of callers there.

    Attributes:
        address: ``HOST:PORT``; None for nowhere.
        cert: file with the certificate and those that signed it, PEM; None for no TLS.
        key: file with its private key, PEM.
        open: ask for no token; on loopback only.
    """

    address: str | None = None
    cert: Path | None = None
    key: Path | None = None
    open: bool = False

    @property
    def is_encrypted(self) -> bool:
        """Whether callers need TLS."""
        return self.cert is not None

    def check(self) -> None:
        """Make sure that the options fit together, and that strangers cannot listen in.

        Raises:
            PortInUse: the port is taken.
            ConfigError: the options do not fit together, or the address is not one of this machine.
        """
        if self.address is None:
            given = {"--api-cert": self.cert, "--api-key": self.key, "--api-open": self.open or None}
            if wrong := next((name for name, value in given.items() if value is not None), None):
                raise ConfigError(f"{wrong} is for an address; add one, such as {OPTION} 127.0.0.1:50051")
            return
        if (self.cert is None) != (self.key is None):
            missing = "--api-key" if self.key is None else "--api-cert"
            raise ConfigError(f"--api-cert and --api-key go together; add {missing}")
        local = self._is_local(self.address)
        if self.open and not local:
            raise ConfigError(
                f"--api-open lets everybody in who reaches {self.address}; leave it out, or listen on "
                f"loopback: {OPTION} 127.0.0.1:50051"
            )
        if not local and not self.is_encrypted:
            raise ConfigError(
                f"{OPTION} {self.address} can be reached by others, who could read the token on its way; add "
                f"--api-cert and --api-key, which this makes: {how(self.address)}"
            )

    @staticmethod
    def _is_local(address: str) -> bool:
        """Whether only this machine reaches an address; that it is free is found out as well, since grpc only
        says that it failed, and not why."""
        probes = hosts.listening(address, OPTION)
        try:
            return all(hosts.is_loopback(probe.getsockname()[0]) for probe in probes)
        finally:
            for probe in probes:
                probe.close()

    def credentials(self) -> tuple[bytes, bytes] | None:
        """The private key and the certificates, PEM; None where callers need no TLS.

        Raises:
            ConfigError: they cannot be read, or do not belong together.
        """
        if self.cert is None or self.key is None:
            return None
        read = []
        for name, path in (("--api-key", self.key), ("--api-cert", self.cert)):
            try:
                read.append(path.read_bytes())
            except OSError as error:
                raise ConfigError(f"{name} {path} cannot be read: {files.why(error)}") from error
        try:
            # Asks for no password: a node that starts by itself has nobody to ask.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key, password="")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--api-cert {self.cert} and --api-key {self.key} are not a certificate and its key, in PEM "
                f"and without a password; this makes a pair: {how(self.address or '')}"
            ) from error
        return read[0], read[1]


def how(address: str) -> str:
    """The line that makes a key and a certificate for an address."""
    host = hosts.split(address, OPTION)[0] if address else "localhost"
    host = "HOST" if host in hosts.ANY else host
    return HOW.format(host=host, kind="IP" if hosts.parse_ip(host) else "DNS")
