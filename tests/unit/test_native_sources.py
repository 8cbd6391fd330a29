"""The C sources: who includes whom. The import test is this for Python."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

EXT = Path(__file__).parents[2] / "ext"
SOURCES = sorted(path for path in EXT.rglob("*.[ch]"))
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)

if not EXT.is_dir():
    pytest.skip("the sources are not here", allow_module_level=True)


def included(source: Path) -> set[Path]:
    return {(source.parent / name).resolve() for name in INCLUDE.findall(source.read_text())}


def test_headers_include_each_other_in_one_direction() -> None:
    headers = {path.resolve(): included(path) for path in SOURCES if path.suffix == ".h"}
    assert EXT / "session" / "session.h" in headers[EXT / "session" / "internal.h"]
    TopologicalSorter(headers).prepare()  # raises CycleError


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(EXT).as_posix())
def test_a_component_includes_its_own_headers_and_those_beside_it(source: Path) -> None:
    """And no file of bodies is included: each is compiled once."""
    for target in included(source):
        assert target.suffix == ".h"
        assert target.exists()
        assert target.parent in {source.parent, source.parent.parent}
