"""The definitions of the API: comments, style, and that no version breaks what an earlier one offered."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

ROOT = Path(__file__).parents[3]
RELEASED = Path(__file__).with_name("released.binpb")
BUF = "github.com/bufbuild/buf/cmd/buf@v1.75.0"
BUILD_SECONDS = 600


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_stubs", ROOT / "proto" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    """The definitions as they are, with their comments."""
    target = tmp_path_factory.mktemp("descriptors") / "current.binpb"
    generator().describe(target, comments=True)
    return FileDescriptorSet.FromString(target.read_bytes())


# --- comments

# Numbers of the fields of descriptor.proto, of which the path of a comment consists.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
NESTED, NESTED_ENUMS, FIELDS, ONEOFS, VALUES, METHODS = 3, 4, 2, 8, 2, 2


def named(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Whatever needs a comment: its path and its name."""
    for number, message in enumerate(file.message_type):
        yield from of_message((MESSAGES, number), message, "")
    for number, enum in enumerate(file.enum_type):
        yield from of_enum((ENUMS, number), enum, "")
    for number, service in enumerate(file.service):
        yield (SERVICES, number), service.name
        for place, method in enumerate(service.method):
            yield (SERVICES, number, METHODS, place), f"{service.name}.{method.name}"


def of_message(path: tuple[int, ...], message: DescriptorProto, within: str) -> Iterator[Any]:
    name = f"{within}{message.name}"
    if not message.options.map_entry:
        yield path, name
        for number, field in enumerate(message.field):
            yield (*path, FIELDS, number), f"{name}.{field.name}"
        for number, oneof in enumerate(message.oneof_decl):
            if not oneof.name.startswith("_"):  # made for an optional field
                yield (*path, ONEOFS, number), f"{name}.{oneof.name}"
    for number, nested in enumerate(message.nested_type):
        yield from of_message((*path, NESTED, number), nested, f"{name}.")
    for number, enum in enumerate(message.enum_type):
        yield from of_enum((*path, NESTED_ENUMS, number), enum, f"{name}.")


def of_enum(path: tuple[int, ...], enum: EnumDescriptorProto, within: str) -> Iterator[Any]:
    yield path, f"{within}{enum.name}"
    for number, value in enumerate(enum.value):
        yield (*path, VALUES, number), f"{within}{enum.name}.{value.name}"


def test_everything_has_a_comment(current: FileDescriptorSet) -> None:
    missing = []
    for file in current.file:
        said = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        missing += [name for path, name in named(file) if not said.get(path)]
    assert missing == []


# --- style


@pytest.mark.timeout(2 * BUILD_SECONDS)
def test_the_definitions_follow_the_rules_of_buf() -> None:
    """proto/buf.yaml has the rules. The first run builds buf, which the cache of Go keeps."""
    if shutil.which("go") is None:
        pytest.skip("there is no Go to build buf with")
    try:
        built = subprocess.run(
            ["go", "run", BUF, "--version"],
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"buf was not built within {BUILD_SECONDS} s; the next run goes on with it")
    if built.returncode != 0:
        pytest.skip(f"buf can be neither found nor built: {built.stderr.strip()[-300:]}")
    linted = subprocess.run(
        ["go", "run", BUF, "lint", "proto"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


# --- what was released stays


def breaking(old: FileDescriptorSet, new: FileDescriptorSet) -> list[str]:
    """What callers of the old definitions would miss in the new ones."""
    before, after = offered(old), offered(new)
    return [
        f"{name} is {after.get(name, 'gone')}, and was {was}"
        for name, was in before.items()
        if after.get(name) != was
    ]


def offered(files: FileDescriptorSet) -> dict[str, str]:
    """All that callers rely on: fields by number, values, methods, and what each is."""
    found: dict[str, str] = {}
    for file in files.file:
        for message in file.message_type:
            found |= of_fields(f"{file.package}.{message.name}", message)
        for enum in file.enum_type:
            found |= of_values(f"{file.package}.{enum.name}", enum)
        for service in file.service:
            for method in service.method:
                streams = f"{method.client_streaming:d}{method.server_streaming:d}"
                name = f"{file.package}.{service.name}.{method.name}"
                found[name] = f"{method.input_type} -> {method.output_type}, streams {streams}"
    return found


def of_fields(name: str, message: DescriptorProto) -> dict[str, str]:
    found = {name: "a message"}
    for field in message.field:
        kind = FieldDescriptorProto.Type.Name(field.type)
        label = FieldDescriptorProto.Label.Name(field.label)
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        found[f"{name}, field {field.number}"] = " ".join(
            filter(None, (label, kind, field.type_name, field.name, field.json_name, oneof))
        )
    for nested in message.nested_type:
        found |= of_fields(f"{name}.{nested.name}", nested)
    for enum in message.enum_type:
        found |= of_values(f"{name}.{enum.name}", enum)
    return found


def of_values(name: str, enum: EnumDescriptorProto) -> dict[str, str]:
    return {f"{name}, value {value.number}": value.name for value in enum.value}


def test_nothing_that_was_released_is_changed(current: FileDescriptorSet) -> None:
    """Add fields, values and methods; never change or remove one. See docs/releasing.md."""
    assert breaking(FileDescriptorSet.FromString(RELEASED.read_bytes()), current) == []


def message(files: FileDescriptorSet, name: str) -> DescriptorProto:
    return next(one for file in files.file for one in file.message_type if one.name == name)


def drop_message(files: FileDescriptorSet) -> None:
    file = next(file for file in files.file if file.name.endswith("node.proto"))
    del file.message_type[0]


def rename_field(files: FileDescriptorSet) -> None:
    message(files, "Receipt").field[0].name = "job"


def renumber_field(files: FileDescriptorSet) -> None:
    message(files, "Receipt").field[0].number = 99


def retype_field(files: FileDescriptorSet) -> None:
    message(files, "Receipt").field[0].type = FieldDescriptorProto.TYPE_BYTES


def repeat_field(files: FileDescriptorSet) -> None:
    message(files, "Receipt").field[0].label = FieldDescriptorProto.LABEL_REPEATED


def drop_value(files: FileDescriptorSet) -> None:
    file = next(file for file in files.file if file.name.endswith("tasks.proto"))
    del file.enum_type[0].value[2]


def drop_method(files: FileDescriptorSet) -> None:
    file = next(file for file in files.file if file.name.endswith("node.proto"))
    del file.service[0].method[0]


def stream_method(files: FileDescriptorSet) -> None:
    file = next(file for file in files.file if file.name.endswith("node.proto"))
    file.service[0].method[0].server_streaming = True


@pytest.mark.parametrize(
    "change",
    [
        drop_message,
        rename_field,
        renumber_field,
        retype_field,
        repeat_field,
        drop_value,
        drop_method,
        stream_method,
    ],
    ids=lambda change: change.__name__,
)
def test_a_change_that_breaks_callers_is_noticed(
    current: FileDescriptorSet, change: Callable[[FileDescriptorSet], None]
) -> None:
    changed = FileDescriptorSet.FromString(current.SerializeToString())
    change(changed)
    assert breaking(current, changed)


def test_an_addition_breaks_nobody(current: FileDescriptorSet) -> None:
    grown = FileDescriptorSet.FromString(current.SerializeToString())
    message(grown, "Receipt").field.add(
        name="more",
        number=100,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=FieldDescriptorProto.TYPE_STRING,
    )
    assert breaking(current, grown) == []
