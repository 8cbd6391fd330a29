"""Signed envelopes for PeerService, as the data that ghz sends.

From the root of the repository::

    PYTHONPATH=tests python tests/load/envelopes.py 10000                 # build/load/send.json
    PYTHONPATH=tests python tests/load/envelopes.py 1024 --exchange 32    # build/load/exchange.json

Each envelope is another one: another date and another signature, by one of a few identities. It is a greeting
(PEERS) without addresses: a node reads it, verifies it, has no further use for it, and dials nobody.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlnet.identity.keys import Identity
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire.messages import Peers
from mlnet.util import clock

DATA = Path(__file__).parents[2] / "build" / "load"
SIGNERS = 16


def envelopes(count: int) -> Iterator[dict[str, str]]:
    """So many distinct envelopes, as protobuf writes them in JSON."""
    signers = itertools.cycle([IdentitySigner(Identity.generate()) for _ in range(SIGNERS)])
    now = clock.wall()
    for number, signer in zip(range(count), signers, strict=False):
        signed = signer.sign(Peers(()), sent=now + number // SIGNERS).envelope
        yield {"yaml": signed.yaml, "signature": base64.b64encode(signed.signature).decode()}


def for_send(count: int) -> list[dict[str, Any]]:
    """A request of Send for each envelope; ghz takes another one for each call."""
    return [{"envelope": envelope} for envelope in envelopes(count)]


def for_exchange(count: int, each: int) -> list[dict[str, Any]]:
    """Requests of Exchange with ``each`` envelopes; ghz sends all of them in every call."""
    made = envelopes(count)
    return [{"envelopes": list(itertools.islice(made, each))} for _ in range(0, count, each)]


def write(path: Path, requests: list[dict[str, Any]]) -> Path:
    """Write requests to where a configuration looks for them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(requests))
    return path


def main(arguments: list[str] | None = None) -> int:
    """Write one data file; says where."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int, help="how many envelopes")
    parser.add_argument("--exchange", type=int, metavar="N", help="N envelopes a request, for Exchange")
    parser.add_argument("--output", type=Path, help="where to")
    options = parser.parse_args(arguments)
    if options.exchange:
        path, requests = DATA / "exchange.json", for_exchange(options.count, options.exchange)
    else:
        path, requests = DATA / "send.json", for_send(options.count)
    sys.stdout.write(f"{write(options.output or path, requests)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
