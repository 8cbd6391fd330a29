"""What the documents say of the code: names, paths, commands and tables that must be true."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.core import TyperGroup

import mlnet
from mlnet.cli import app
from mlnet.protocol.wire.message_types import MESSAGE_TYPES
from mlnet.simulation.profiles import PROFILES
from mlnet.task.keys import ALL_KEYS

ROOT = Path(__file__).parents[2]
README, PROTOCOL = ROOT / "README.md", ROOT / "proto" / "README.md"
EXAMPLES = ROOT / "examples"
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(
            path
            for folder in ("docs", "examples", "proto", "tests")
            for path in (ROOT / folder).rglob("*.md")
        ),
    ]
)
FOLDERS = ("mlnet", "tests", "proto", "docs", "ext", "examples", r"\.ci")
GRPC_NAMES = {
    f"mlnet.v1.{name}"
    for path in (ROOT / "proto").rglob("*.proto")
    for name in re.findall(r"^(?:service|message|enum) (\w+)", path.read_text(), re.M)
}
MADE = ("docs/task-definition.md",)
"""Pages that are generated, and compared with what generates them."""
MAX_README_LINES = 150

everywhere = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def code(document: Path) -> list[str]:
    """The code of a document: its spans, on one line each, and the lines of its blocks."""
    text = document.read_text()
    blocks = [block[1] for block in re.finditer(r"^```\w*\n(.*?)^```", text, re.M | re.S)]
    prose = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.M | re.S)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return [*spans, *(line for block in blocks for line in block.splitlines())]


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.M | re.S)


def commands(document: Path, program: str) -> list[list[str]]:
    """The words after a program's name, wherever a document has it run."""
    found = []
    for line in code(document):
        for part in re.split(r"[|;]|&&", line.partition(" # ")[0]):
            words = part.removeprefix("$ ").split()
            if program in words[:1]:
                found.append(shlex.split(part.removeprefix("$ "))[1:])
    return found


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


@everywhere
def test_every_path_exists(document: Path) -> None:
    pattern = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./*-]*[\w*]/?")
    named = {path for line in code(document) for path in pattern.findall(line)}
    places = (ROOT, document.parent)
    assert sorted(path for path in named if not any(list(place.glob(path)) for place in places)) == []


@everywhere
def test_every_module_exists(document: Path) -> None:
    named = {
        name
        for line in code(document)
        for name in re.findall(r"(?<![\w/.-])mlnet(?:\.\w+)+", line)
        if ".".join(name.split(".")[:3]) not in GRPC_NAMES and not (ROOT / name).exists()
    }
    assert sorted(name for name in named if not exists(name)) == []


@everywhere
def test_every_public_attribute_exists(document: Path) -> None:
    named = {name for line in code(document) for name in re.findall(r"(?<![\w.])([A-Z]\w+)\.(\w+)", line)}
    wrong = [(kind, name) for kind, name in named if kind in mlnet.__all__ and name not in attributes(kind)]
    assert wrong == []


@functools.cache
def attributes(kind: str) -> set[str]:
    """Those of a public class, and of what it derives from in its module, from the source: some of them are
    in modules that are slow to import."""
    home = ROOT / (mlnet._HOMES[kind].replace(".", "/") + ".py")
    tree = ast.parse(home.read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return own_attributes(classes[kind]).union(
        *(own_attributes(classes[base.id]) for base in classes[kind].bases if isinstance(base, ast.Name))
    )


def own_attributes(found: ast.ClassDef) -> set[str]:
    names = {node.name for node in found.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    targets = [node.target for node in found.body if isinstance(node, ast.AnnAssign)]
    return names | {target.id for target in targets if isinstance(target, ast.Name)}


def exists(name: str) -> bool:
    """Whether a dotted name is that of a module, or of something in one."""
    parts = name.split(".")
    if len(parts) == 2 and parts[1] in dir(mlnet):  # without loading what is public, such as torch
        return True
    for length in range(len(parts), 0, -1):
        if (spec := find(".".join(parts[:length]))) is not None:
            found: object = importlib.import_module(spec)
            for part in parts[length:]:
                if not hasattr(found, part):
                    return False
                found = getattr(found, part)
            return True
    return False


def find(module: str) -> str | None:
    try:
        return module if importlib.util.find_spec(module) is not None else None
    except ModuleNotFoundError:
        return None


@everywhere
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


@functools.cache
def program() -> TyperGroup:
    command = typer.main.get_command(app.app)
    assert isinstance(command, TyperGroup)
    return command


@everywhere
def test_every_command_and_option_exists(document: Path) -> None:
    wrong = []
    for words in commands(document, "mlnet-node"):
        if not words or words[0].startswith("-"):
            continue
        command = program().commands.get(words[0])
        group = getattr(command, "commands", {})
        if group and len(words) > 1 and not words[1].startswith("-"):
            command = group.get(words[1])
        given = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
        options = command.params if command is not None else []
        known = {"--help", *(name for option in options for name in (*option.opts, *option.secondary_opts))}
        if command is None or given - known:
            wrong.append(" ".join(words))
    assert wrong == []


def test_the_command_lines_of_a_service_are_understood(tmp_path: Path) -> None:
    """Those of the unit and of the container, and the file of options beside them."""
    page = ROOT / "docs" / "operating.md"
    (unit,), (container,), (config,) = (blocks(page, kind) for kind in ("ini", "dockerfile", "toml"))
    started = re.search(r"^ExecStart=(.*)$", unit, re.M)
    entry = re.search(r"^ENTRYPOINT (.*)$", container, re.M)
    assert started is not None
    assert entry is not None
    (tmp_path / "node.toml").write_text(config)
    words = started[1].replace("/etc/mlnet", str(tmp_path)).split()
    assert words[0].endswith("/mlnet-node")
    for line in (words[1:], ast.literal_eval(entry[1])[1:]):
        command = program().commands[line[0]]
        context = command.make_context("start", list(line[1:]))
        assert context.params["data_dir"] in (Path("/var/lib/mlnet"), Path("/data"))
        assert context.params["port"] == 4001


@everywhere
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {words[0] for words in commands(document, "make") if words}
    assert sorted(named - targets) == []


@pytest.mark.parametrize(("position", "example"), [(0, "submit.py"), (1, "stub.py")])
def test_the_code_of_the_readme_is_that_of_an_example(position: int, example: str) -> None:
    text = (EXAMPLES / example).read_text()
    assert text.partition('"""\n\n')[2] == blocks(README, "python")[position]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_documents", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_of_the_definition_is_that_of_the_schema() -> None:
    page = (ROOT / "docs" / "task-definition.md").read_text()
    assert page == generator().generate(), "run: python docs/generate.py"


def test_the_reference_of_the_definition_has_every_key() -> None:
    page = (ROOT / "docs" / "task-definition.md").read_text()
    shown = set(re.findall(r"^\| `([\w-]+)` \|", page, re.M))
    # "tau" is known only to be refused with a reason.
    assert shown == ALL_KEYS - {"tau"}


def test_the_exit_codes_are_those_of_the_program() -> None:
    said = {
        int(found[1]): found[2]
        for line in app.exit_codes().splitlines()
        if (found := re.match(r"\s+(\d+)  (.*)", line))
    }
    page = (ROOT / "docs" / "using.md").read_text()
    shown = {int(number): text for number, text in re.findall(r"^\| (\d+) \| (.*) \|$", page, re.M)}
    assert shown == said


def test_every_message_of_the_protocol_has_a_row() -> None:
    shown = set(re.findall(r"^\| ([A-Z_]+) \|", PROTOCOL.read_text(), re.M))
    assert set(MESSAGE_TYPES) <= shown


def test_the_number_of_fault_profiles_is_right() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert f"over {len(PROFILES)} fault profiles" in page


# The picture of the packages: what it draws, and what the code does.
EVERYBODY = {"errors", "util"}
"""Packages that the page says everybody may import."""


def drawn() -> dict[str, set[str]]:
    """Each package of the picture with all that its arrows lead to."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    picture = page.partition("flowchart TD\n")[2].partition("```")[0]
    arrows = defaultdict(set)
    for start, end in re.findall(r"(\w+) --> (\w+)", picture):
        arrows[start].add(end)
    return {name: reached(name, arrows) for name in arrows}


def reached(name: str, arrows: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for end in arrows.get(waiting.pop(), ()):
            if end not in found:
                found.add(end)
                waiting.append(end)
    return found


def imports() -> Iterator[tuple[str, str, str]]:
    """(package, imported package, place) of each import within mlnet."""
    package = Path(mlnet.__file__).parent
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if len(relative.parts) == 1:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "mlnet":
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlnet."):
                targets = [(node.module or "").split(".")[1]]
            else:
                continue
            yield from ((relative.parts[0], target, f"{relative}:{node.lineno}") for target in targets)


def test_the_picture_of_the_packages_is_that_of_the_code() -> None:
    picture = drawn()
    wrong = [
        f"{place}: {package} -> {target} is not drawn"
        for package, target, place in imports()
        if target not in {package, *EVERYBODY, *picture.get(package, set())} and not target.startswith("__")
    ]
    assert wrong == []


def test_every_package_is_in_the_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    package = Path(mlnet.__file__).parent
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    assert packages == set(re.findall(r"^\| `mlnet/(\w+)/` \|", page, re.M))
