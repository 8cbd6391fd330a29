from __future__ import annotations

import stat
from pathlib import Path

import base58
import pytest

from mlnet.errors import ConfigError
from mlnet.identity.keys import Identity, parse_peer_id, verify

SEED = bytes(range(32))


def test_the_peer_id_is_that_of_libp2p() -> None:
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    assert Identity.from_seed(SEED).peer_id == str(ID.from_pubkey(create_new_key_pair(SEED).public_key))


def test_a_peer_id_contains_the_public_key_that_verifies() -> None:
    identity = Identity.from_seed(SEED)
    signature = identity.sign(b"message")
    assert len(signature) == 64
    assert len(parse_peer_id(identity.peer_id)) == 32
    assert verify(identity.peer_id, b"message", signature)
    assert not verify(identity.peer_id, b"another", signature)
    assert not verify(Identity.generate().peer_id, b"message", signature)


@pytest.mark.parametrize(
    "peer_id",
    [
        "",
        "12D3KooW",
        "x" * 52,
        "0" * 52,
        "é" * 52,
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        base58.b58encode(bytes.fromhex("002408021220") + bytes(32)).decode(),
        " " + Identity.from_seed(SEED).peer_id[1:],
        Identity.from_seed(SEED).peer_id[:-1],
        Identity.from_seed(SEED).peer_id + "1",
    ],
)
def test_anything_else_is_no_peer_id(peer_id: str) -> None:
    with pytest.raises(ValueError, match="Ed25519 peer id"):
        parse_peer_id(peer_id)
    assert not verify(peer_id, b"", bytes(64))


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65), b"\xff" * 64])
def test_a_malformed_signature_is_false_not_an_error(signature: bytes) -> None:
    assert not verify(Identity.from_seed(SEED).peer_id, b"message", signature)


def test_derived_keys_depend_on_identity_and_context() -> None:
    one, other = Identity.from_seed(SEED), Identity.generate()
    assert len(one.derive(b"a")) == 32
    assert one.derive(b"a") == Identity.from_seed(SEED).derive(b"a")
    assert len({one.derive(b"a"), one.derive(b"b"), other.derive(b"a")}) == 3


def test_a_seed_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        Identity.from_seed(bytes(31))


def test_the_secret_is_not_shown() -> None:
    identity = Identity.generate()
    assert identity.seed.hex() not in repr(identity)
    assert identity.peer_id in repr(identity)


def test_the_key_file_is_private_and_lasting(tmp_path: Path) -> None:
    path = tmp_path / "new" / "identity"
    created = Identity.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Identity.load_or_create(path).peer_id == created.peer_id
    assert [entry.name for entry in path.parent.iterdir()] == ["identity"]


def test_of_two_creators_the_first_wins(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    first, second = Identity.generate(), Identity.generate()
    first._store(path)
    second._store(path)
    assert Identity.load_or_create(path).peer_id == first.peer_id
    assert [entry.name for entry in tmp_path.iterdir()] == ["identity"]


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"mlnet-identity-1 xyz\n", b"mlnet-identity-1 00ff\n", b"\xff" * 300]
)
def test_a_corrupt_key_file_is_an_error_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="is not an identity of mlnet"):
        Identity.load_or_create(path)
    assert path.read_bytes() == content


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    Identity.load_or_create(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Identity.load_or_create(path)


def test_a_directory_in_the_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the identity"):
        Identity.load_or_create(tmp_path)


def test_a_file_in_the_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="identity"):
        Identity.load_or_create(tmp_path / "file" / "identity")
