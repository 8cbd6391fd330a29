"""``validate --fix``: the corrected file, the copy of the old one, what is shown, and the exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.definitions import EXAMPLE

from mlnet.cli import app
from mlnet.errors import ConfigError, TaskError
from mlnet.task import definition as task_definition

GOOD = EXAMPLE.read_text().replace(
    "mlnet/examples/digits.npz", str(EXAMPLE.parent / "mlnet/examples/digits.npz")
)
FIXABLE = GOOD.replace("activation: ReLU", "activation: relu").replace("epochs: 12", 'epochs: "12"')
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mlnet-node", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.main()
        out, err = capfd.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 1, out, err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a task.yaml"
    path.write_text(FIXABLE)
    path.chmod(0o640)
    return path


def test_all_errors_are_listed_with_line_path_and_fix(run: Run, file: Path) -> None:
    file.write_text(FIXABLE.replace("max-nodes: 64", "max-nodes: 1"))
    code, out, err = run("validate", str(file))

    assert (code, out) == (TaskError.exit_code, "")
    assert err.splitlines() == [
        f"mlnet-node: error: {file} has 4 errors",
        '  line 48: ml.optimizer.epochs: found the text "12"',
        "      --> write 12, without quotes or point",
        '  line 62: ml.model.hidden-units[0].activation: found the text "relu"',
        "      --> write ReLU",
        '  line 66: ml.model.hidden-units[1].activation: found the text "relu"',
        "      --> write ReLU",
        "  line 80: cluster.max-nodes: 1 is too small",
        "      -> 2 to 1024 are accepted",
        f"mlnet-node validate --fix '{file}' corrects 3 of them, those marked -->",
    ]


def test_fix_replaces_the_file_and_keeps_what_it_was(run: Run, file: Path) -> None:
    code, out, err = run("validate", "--fix", str(file))

    assert (code, err) == (0, "")
    assert file.read_text() == GOOD
    assert file.stat().st_mode & 0o777 == 0o640
    backup = file.with_name("a task.yaml.orig")
    assert backup.read_text() == FIXABLE
    lines = out.splitlines()
    assert '-    epochs: "12"' in lines
    assert "+    epochs: 12" in lines
    assert "corrected: 3 errors" in lines
    assert f"{file} is corrected; what it was is in {backup}" in lines
    assert lines[-1] == "valid"
    assert sorted(path.name for path in file.parent.iterdir()) == ["a task.yaml", "a task.yaml.orig"]


def test_fix_leaves_a_valid_file_and_older_copies_alone(run: Run, file: Path) -> None:
    older = file.with_name("a task.yaml.orig")
    older.write_text("older")
    assert run("validate", "--fix", "--no-data", str(file))[0] == 0
    assert older.read_text() == "older"
    assert file.with_name("a task.yaml.orig.1").read_text() == FIXABLE

    before = file.stat()
    code, out, _ = run("validate", "--fix", "--no-data", str(file))
    assert (code, out.splitlines()[0]) == (0, "nothing to correct")
    assert file.stat().st_mtime_ns == before.st_mtime_ns


def test_fix_lists_what_is_left_to_do_by_hand(run: Run, file: Path) -> None:
    file.write_text(FIXABLE.replace("max-nodes: 64", "max-nodes: 1"))
    code, out, err = run("validate", "--fix", str(file))

    assert code == TaskError.exit_code
    assert "corrected: 3 errors" in out
    assert (
        err
        == f"mlnet-node: error: {file}: line 80: cluster.max-nodes: 1 is too small (2 to 1024 are accepted)\n"
    )
    assert "activation: ReLU" in file.read_text()


def test_fix_to_standard_output_gives_the_definition_alone(run: Run, file: Path) -> None:
    code, out, err = run("validate", "--fix", "--output", "-", str(file))

    assert (code, out) == (0, GOOD)
    assert "+    epochs: 12" in err
    assert file.read_text() == FIXABLE


def test_fix_to_a_new_file(run: Run, file: Path) -> None:
    new = file.with_name("new.yaml")
    code, out, _ = run("validate", "--fix", "--no-data", "--output", str(new), str(file))
    assert code == 0
    assert out.splitlines()[-1] == "valid; the dataset was not read"
    assert (new.read_text(), file.read_text()) == (GOOD, FIXABLE)

    code, _, err = run("validate", "--fix", "--output", str(new), str(file))
    assert code == ConfigError.exit_code
    assert "exists already" in err


def test_fix_where_nothing_can_be_written_says_what_to_do(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refused)
    code, _, err = run("validate", "--fix", str(file))
    assert code == ConfigError.exit_code
    assert "Permission denied" in err
    assert "--output NEW" in err
    assert file.read_text() == FIXABLE


def test_fix_follows_a_link_to_the_file(run: Run, file: Path) -> None:
    link = file.with_name("link.yaml")
    link.symlink_to(file.name)
    assert run("validate", "--fix", "--no-data", str(link))[0] == 0
    assert link.is_symlink()
    assert file.read_text() == GOOD


def test_text_of_two_bytes_a_letter_is_written_as_utf_8(run: Run, file: Path) -> None:
    file.write_bytes(FIXABLE.encode("utf-16"))
    code, _, err = run("validate", str(file))
    assert code == TaskError.exit_code
    assert "the file is UTF-16 text" in err
    assert "validate --fix" in err
    assert run("validate", "--fix", "--no-data", str(file))[0] == 0
    assert file.read_bytes() == GOOD.encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04...", "a ZIP or NPZ file"),
        (b"\x1f\x8b...", "a gzip file"),
        (b"# f\xfcr\nversion: 1\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_text(run: Run, file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    for arguments in (["validate"], ["validate", "--fix"]):
        code, _, err = run(*arguments, str(file))
        assert code == TaskError.exit_code
        assert words in err
    assert file.read_bytes() == content


def test_output_goes_with_fix(run: Run) -> None:
    code, _, err = run("validate", "--output", "x")
    assert code == 2
    assert "--fix" in err


def test_a_library_caller_gets_the_errors_and_the_file(file: Path) -> None:
    with pytest.raises(TaskError) as caught:
        task_definition.load_file(file)
    assert caught.value.file == str(file)
    assert [(error.line, error.path, error.fix, error.certain) for error in caught.value.errors] == [
        (48, "ml.optimizer.epochs", "write 12, without quotes or point", True),
        (62, "ml.model.hidden-units[0].activation", "write ReLU", True),
        (66, "ml.model.hidden-units[1].activation", "write ReLU", True),
    ]
    assert str(caught.value).startswith("3 errors: line 48: ml.optimizer.epochs: ")


def test_submit_tells_of_a_wrong_definition_before_it_looks_for_peers(run: Run, file: Path) -> None:
    peer = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"
    code, out, err = run("submit", "--peer", peer, "--data-dir", str(file.parent / "data"), str(file))
    assert (code, out) == (TaskError.exit_code, "")
    assert f"{file} has 3 errors" in err
