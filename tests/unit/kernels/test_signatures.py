"""The compiled kernel and PyNaCl's own function say the same."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import nacl.signing
import pytest

from mlnet.kernels import signatures

Signed = tuple[tuple[bytes, bytes], ...]
VERIFIERS = [signatures._verify_each]
if signatures._verify_all is not signatures._verify_each:
    VERIFIERS.append(signatures._verify_all)


@pytest.fixture(params=VERIFIERS, ids=["each", "compiled"][: len(VERIFIERS)])
def verify_all(request: pytest.FixtureRequest) -> Callable[[Signed], list[bool]]:
    verify: Callable[[Signed], list[bool]] = request.param
    return verify


def signed(count: int) -> list[tuple[bytes, bytes]]:
    chance = random.Random(1)
    entries = []
    for _ in range(count):
        key = nacl.signing.SigningKey(chance.randbytes(32))
        entries.append((bytes(key.verify_key), bytes(key.sign(chance.randbytes(chance.randrange(500))))))
    return entries


def test_each_signature_is_judged_by_itself(verify_all: Callable[[Signed], list[bool]]) -> None:
    chance = random.Random(2)
    entries, expected = signed(200), [True] * 200
    for index in chance.sample(range(200), 100):
        key, data = entries[index]
        spoiled = bytearray(data)
        spoiled[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        entries[index], expected[index] = (key, bytes(spoiled)), False
    assert verify_all(tuple(entries)) == expected


@pytest.mark.parametrize("data", [b"", bytes(63), bytes(64), b"\xff" * 64])
def test_what_is_no_signature_is_false(verify_all: Callable[[Signed], list[bool]], data: bytes) -> None:
    genuine = signed(1)[0]
    assert verify_all(((genuine[0], data), genuine)) == [False, True]


def test_the_signature_of_another_is_false(verify_all: Callable[[Signed], list[bool]]) -> None:
    (one, data), (other, _) = signed(2)
    assert verify_all(((one, data), (other, data))) == [True, False]


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_an_error(verify_all: Callable[[Signed], list[bool]], key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        verify_all(((key, bytes(64)),))


def test_nothing_to_verify(verify_all: Callable[[Signed], list[bool]]) -> None:
    assert verify_all(()) == []


def test_threads_do_not_disturb_one_another(verify_all: Callable[[Signed], list[bool]]) -> None:
    entries = signed(64)
    entries[7] = (entries[7][0], bytes(80))
    results: list[list[bool]] = []
    threads = [threading.Thread(target=lambda: results.append(verify_all(tuple(entries)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [[index != 7 for index in range(64)]] * 4
