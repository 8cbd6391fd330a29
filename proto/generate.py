"""Writes ``mlnet/v1`` from the protocol definitions: ``python proto/generate.py [DIRECTORY]``.

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


def generate(target: Path) -> list[Path]:
    """Generate into ``target``; the files written, relative to it.

    Raises:
        RuntimeError: the compiler refused a definition; it has said why on standard error.
    """
    target.mkdir(parents=True, exist_ok=True)
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT / 'proto'}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"--python_out={target}",
            f"--pyi_out={target}",
            f"--grpc_python_out={target}",
            *(f"mlnet/v1/{source}.proto" for source in SOURCES),
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc ended with status {status}")
    return sorted(path.relative_to(target) for path in (target / "mlnet" / "v1").glob("*_pb2*"))


if __name__ == "__main__":
    for path in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT):
        sys.stdout.write(f"{path}\n")
