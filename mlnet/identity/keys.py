"""A node's identity: an Ed25519 key, and the libp2p peer id that contains its public half.

The peer id is the base58 of an identity multihash over libp2p's protobuf of the public key
(https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md): ``00 24 08 01 12 20`` and the 32 bytes of
the key, which always reads ``12D3KooW...``. The id contains the key, so a signature is verified without a
look-up.

Only Ed25519 is accepted: other keys are hashed into their peer id, so the key would have to be fetched first.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import base58
import nacl.signing

from mlnet.errors import ConfigError
from mlnet.kernels import signatures

_PREFIX = bytes.fromhex("002408011220")
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
PEER_ID_LENGTH = 52
"""Characters of every Ed25519 peer id: base58 of 38 bytes with this prefix."""
_HEADER = b"mlnet-identity-1 "
"""First bytes of an identity file: any other file named by mistake is refused, and a new format gets a new
header."""


class Identity:
    """An Ed25519 key pair and its peer id.

    Make one with :meth:`load_or_create`, :meth:`generate` or :meth:`from_seed`.
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) != _KEY_BYTES:
            raise ValueError(f"an Ed25519 seed has {_KEY_BYTES} bytes, not {len(seed)}")
        self._key = nacl.signing.SigningKey(seed)
        self._peer_id = base58.b58encode(_PREFIX + bytes(self._key.verify_key)).decode()

    @classmethod
    def generate(cls) -> Identity:
        """A fresh identity, which is not stored."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte seed.

        Raises:
            ValueError: the seed has another length.
        """
        return cls(seed)

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """The identity stored at ``path``; if there is no file, a fresh one, which is stored there with mode
        0600.

        Two processes that create it at the same moment end up with the same identity.

        Raises:
            ConfigError: the file cannot be read or written, other users can read it, or it holds no identity.
                A group without a name, as on a container's volume, does not count as other users.
        """
        try:
            return cls._load(path)
        except FileNotFoundError:
            pass
        identity = cls.generate()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            identity._store(path)
            return cls._load(path)
        except OSError as error:
            raise ConfigError(
                f"cannot write the identity to {path}: {error.strerror}; "
                "choose a directory that this user may write to with --data-dir"
            ) from error

    @classmethod
    def _load(cls, path: Path) -> Identity:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                # Bounded: the path may be any file.
                content = file.read(256)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ConfigError(
                f"cannot read the identity {path}: {error.strerror}; check the owner and the mode of the file"
            ) from error
        if status.st_mode & 0o077 and not _is_ours_alone(status, path.parent):
            raise ConfigError(
                f"others can read the identity {path} (mode {stat.S_IMODE(status.st_mode):04o}); "
                f"run: chmod 600 {path}. If every start sets that mode anew, as fsGroup of Kubernetes does, "
                "set fsGroupChangePolicy: OnRootMismatch, or copy the file to a private directory first"
            )
        try:
            if not content.startswith(_HEADER):
                raise ValueError("no header")
            return cls(bytes.fromhex(content[len(_HEADER) :].decode("ascii").strip()))
        except ValueError as error:
            raise ConfigError(
                f"{path} is not an identity of mlnet; restore it from a backup, "
                "or move it away to start with a new identity"
            ) from error

    def _store(self, path: Path) -> None:
        """Write a private file beside ``path`` and link it there. link(2) fails if the name is taken: no
        reader ever sees half a file, and of two processes the first one wins."""
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_HEADER + self.seed.hex().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink()

    @property
    def peer_id(self) -> str:
        """The peer id, ``12D3KooW...``, 52 characters."""
        return self._peer_id

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes."""
        return bytes(self._key)

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature over ``data``; 64 bytes."""
        return self._key.sign(data).signature

    def derive(self, context: bytes) -> bytes:
        """32 secret bytes for one purpose: HMAC-SHA256 of ``context`` keyed by the seed."""
        return hmac.digest(self.seed, context, hashlib.sha256)

    def __repr__(self) -> str:
        return f"Identity({self._peer_id})"


def _is_ours_alone(file: os.stat_result, directory: Path) -> bool:
    """Whether a file that its group may read is private to this process all the same.

    A container's volume with an ``fsGroup`` makes every file readable by a group that only exists there: it
    has no name, so no account belongs to it, and whoever started this process gave it to it. A group with a
    name may have members, now or later.
    """
    mine = {os.getegid(), *os.getgroups()}
    if file.st_mode & 0o007 or file.st_gid not in mine or directory.stat().st_mode & 0o002:
        return False
    try:
        grp.getgrgid(file.st_gid)
    except KeyError:
        return True
    return False


def parse_peer_id(text: str) -> bytes:
    """The 32-byte public key that a peer id contains.

    Raises:
        ValueError: it is not the peer id of an Ed25519 key in its one canonical form, base58.

    Example:
        >>> parse_peer_id("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo").hex()[:8]
        'dadbd184'
        >>> parse_peer_id("12D3KooW")
        Traceback (most recent call last):
        ...
        ValueError: '12D3KooW' is not an Ed25519 peer id (52 characters that begin with 12D3KooW)
    """
    if len(text) != PEER_ID_LENGTH or not text.isascii():
        raise ValueError(f"{text[:64]!r} is not an Ed25519 peer id (52 characters that begin with 12D3KooW)")
    try:
        raw = base58.b58decode(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an Ed25519 peer id: {str(error).lower()}") from None
    if len(raw) != len(_PREFIX) + _KEY_BYTES or not raw.startswith(_PREFIX):
        raise ValueError(f"{text!r} is not an Ed25519 peer id, but of another kind of key")
    return raw[len(_PREFIX) :]


# As many peers as a node keeps rates for (rates.REMEMBERED_PEERS). Decoding base58 in Python takes 40 us, as
# long as verifying the signature.
@lru_cache(maxsize=4096)
def _public_key(peer_id: str) -> bytes:
    return parse_peer_id(peer_id)


def verify(peer_id: str, data: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is a valid signature of ``peer_id`` over ``data``; False for anything
    malformed."""
    return verify_all([(peer_id, data, signature)])[0]


def verify_all(signed: Sequence[tuple[str, bytes, bytes]]) -> list[bool]:
    """:func:`verify` for each ``(peer_id, data, signature)``, in any thread."""
    keys = [_key_of(peer_id, signature) for peer_id, _, signature in signed]
    entries = [
        (key, signature + data)
        for key, (_, data, signature) in zip(keys, signed, strict=True)
        if key is not None
    ]
    genuine = iter(signatures.verify_all(entries))
    return [key is not None and next(genuine) for key in keys]


def _key_of(peer_id: str, signature: bytes) -> bytes | None:
    """The key to verify with; None when the arguments are malformed."""
    if len(signature) != _SIGNATURE_BYTES or len(peer_id) != PEER_ID_LENGTH:
        return None
    try:
        return _public_key(peer_id)
    except ValueError:
        return None
