from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_generated_code_is_that_of_the_definition(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "proto" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = module.generate(tmp_path)
    committed = sorted(path.relative_to(ROOT) for path in (ROOT / "mlnet" / "v1").glob("*_pb2*"))
    assert written == committed
    for path in written:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), (
            f"run: python proto/generate.py ({path})"
        )


def test_the_envelope_is_fixed() -> None:
    from mlnet.v1 import peer_pb2

    # Field 1 is the string, field 2 the signature: every version of mlnet reads these bytes.
    assert peer_pb2.Envelope(yaml="a", signature=b"b").SerializeToString() == b"\x0a\x01a\x12\x01b"
