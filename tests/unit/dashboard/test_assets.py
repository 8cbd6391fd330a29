"""The files of the page: whole, unchanged where they are others', and without what its policy forbids."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlnet.dashboard.app import STATIC
from mlnet.errors import MlnetError

VENDORED = STATIC / "vendor" / "uplot"
OWN = sorted([*STATIC.glob("*.*"), *STATIC.glob("js/*.js")])
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(.style"
)


def test_the_charting_library_is_what_its_note_says() -> None:
    note = (VENDORED / "README.md").read_text()
    named = dict(re.findall(r"`(uPlot\S+)` \| `([0-9a-f]{64})`", note))
    assert named == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDORED.iterdir()
        if path.suffix in (".js", ".css")
    }
    assert "MIT" in (VENDORED / "LICENSE").read_text()


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_fetched_from_elsewhere_and_no_text_becomes_html(path: Path) -> None:
    text = path.read_text()
    links = set(re.findall(r"https?://[\w.-]+", text)) - {"http://www.w3.org"}  # the name of a namespace
    assert not links
    assert not re.findall(r"url\(", text)
    assert not FORBIDDEN.search(text)


@pytest.mark.parametrize("path", [one for one in OWN if one.suffix == ".js"], ids=lambda path: path.name)
def test_every_module_that_is_imported_is_there(path: Path) -> None:
    imported = re.findall(r'from "/static/(\S+)"', path.read_text())
    assert [name for name in imported if not (STATIC / name).is_file()] == []


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "style") and "src" not in given:
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag in ("script", "link"):
            self.files.append(given.get("src") or given.get("href") or "")


def test_the_page_has_nothing_inline() -> None:
    page = _Page()
    page.feed((STATIC / "index.html").read_text())
    assert page.inline == []
    assert page.files
    assert [name for name in page.files if not (STATIC / name.removeprefix("/static/")).is_file()] == []


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2 for two colours."""
    lights = []
    for colour in (one, other):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    low, high = sorted(lights)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground", "least"),
    [
        *(
            (ink, ground, 4.5)
            for ink in ("text", "quiet", "accent", "good", "warn", "bad")
            for ground in ("page", "panel", "soft")
        ),
        *(
            ("text", "heat", 4.5),
            ("bad", "bad-soft", 4.5),
            ("on-accent", "accent", 4.5),
            ("text", "field", 4.5),
        ),
        *(("edge", "panel", 3.0), ("edge", "page", 3.0)),  # borders of fields and buttons
    ],
)
def test_colours_have_the_contrast_of_aa(theme: int, ink: str, ground: str, least: float) -> None:
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", (STATIC / "app.css").read_text())
    colours = {name: (light, dark)[theme] for name, light, dark in pairs}
    assert contrast(colours[ink], colours[ground]) >= least


def test_errors_of_the_page_are_errors_of_mlnet() -> None:
    from mlnet.dashboard.answers import STATUSES, BadRequest, described

    assert issubclass(BadRequest, MlnetError)
    status, body = described(BadRequest("no"))
    assert (status, body["message"]) == (400, "no")
    assert all(400 <= one < 600 for one in STATUSES.values())
