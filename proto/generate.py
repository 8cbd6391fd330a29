"""Writes ``mlnet/v1`` from the protocol definitions: ``python proto/generate.py [DIRECTORY]``.

With ``--released`` it writes ``tests/unit/proto/released.binpb`` instead, with which the definitions of later
versions are compared; that is part of a release.

Needs the version of grpcio-tools that pyproject.toml names: later ones write code for protobuf 7, which
libp2p forbids.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("blobs", "node", "peer", "tasks")
RELEASED = ROOT / "tests" / "unit" / "proto" / "released.binpb"


def generate(target: Path) -> list[Path]:
    """Generate into ``target``; the files written, relative to it.

    Raises:
        RuntimeError: the compiler refused a definition; it has said why on standard error.
    """
    target.mkdir(parents=True, exist_ok=True)
    _compile(f"--python_out={target}", f"--pyi_out={target}", f"--grpc_python_out={target}")
    return sorted(path.relative_to(target) for path in (target / "mlnet" / "v1").glob("*_pb2*"))


def describe(target: Path, *, comments: bool = False) -> None:
    """Write the definitions as a ``FileDescriptorSet``, with or without their comments.

    Raises:
        RuntimeError: as above.
    """
    _compile(f"--descriptor_set_out={target}", *(["--include_source_info"] if comments else []))


def _compile(*options: str) -> None:
    places = (ROOT / "proto", files("grpc_tools") / "_proto")
    sources = [f"mlnet/v1/{source}.proto" for source in SOURCES]
    status = protoc.main(["protoc", *(f"-I{place}" for place in places), *options, *sources])
    if status != 0:
        raise RuntimeError(f"protoc ended with status {status}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--released"]:
        describe(RELEASED)
        sys.stdout.write(f"{RELEASED}\n")
    else:
        for path in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT):
            sys.stdout.write(f"{path}\n")
