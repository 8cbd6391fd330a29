"""The page in a real browser: before an API that says hostile things, and with real nodes from end to end."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, expect
from support.api_double import TASK
from support.api_node import ApiNode, api_node
from support.browser import DESKTOP, PHONE, Visit, chromium, visit
from support.cluster import EXAMPLE, Mission, mission

import mlnet
from mlnet.dashboard.serving import serving
from mlnet.sdk.target import Target
from mlnet.v1 import tasks_pb2

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
DIGITS = EXAMPLE.with_name("digits.npz")
WHOLE_TASK_MS = 120_000.0
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest.fixture
async def node() -> AsyncIterator[ApiNode]:
    async with api_node() as running:
        yield running


@pytest.fixture
async def home(node: ApiNode) -> AsyncIterator[str]:
    async with serving(Target(socket=node.socket), "127.0.0.1:0", "--listen") as url:
        yield url


def at(home: str, path: str) -> str:
    """The address of a page, with the token."""
    return home.replace("/#", f"{path}#")


async def test_the_token_leaves_the_address_and_a_page_without_it_asks_for_it(
    browser: Browser, home: str
) -> None:
    base, _, token = home.partition("/#token=")
    async with visit(browser, at(home, "/tasks")) as visited:
        await expect(visited.page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
        assert visited.page.url == f"{base}/tasks"
        await visited.page.reload()
        await expect(visited.page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
    async with visit(browser, f"{base}/tasks") as visited:
        page = visited.page
        await page.get_by_label("Token, or the whole address").fill("wrong")
        await page.get_by_role("button", name="Open").click()
        await expect(page.get_by_role("alert")).to_contain_text("not, or no longer, right")
        await page.get_by_label("Token, or the whole address").fill(f"{base}/#token={token}")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
        refused = [line for line in visited.complaints if "401" in line]
        visited.complaints = [line for line in visited.complaints if line not in refused]
        assert refused


async def test_texts_of_others_are_shown_as_texts(browser: Browser, node: ApiNode, home: str) -> None:
    node.name = node.waiting = HOSTILE
    await node.happen(phase=tasks_pb2.PhaseEntered(phase=HOSTILE, waiting=HOSTILE))
    await node.happen(answer=tasks_pb2.NodeAnswered(peer=HOSTILE, refusal=HOSTILE))
    await node.happen(members=tasks_pb2.MembersChosen(attempt=1, members=[HOSTILE, "b"]))
    votes = {HOSTILE: HOSTILE, "b": "1"}
    await node.happen(vote=tasks_pb2.VoteCounted(votes=votes, kept=["b"], reason=HOSTILE))
    await node.say(HOSTILE)
    async with visit(browser, at(home, f"/tasks/{TASK}")) as visited:
        await expect(visited.page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
        await expect(visited.page.locator(".waiting")).to_contain_text(HOSTILE)
        await expect(visited.page.locator(".log")).to_contain_text(HOSTILE)
        assert await visited.page.locator("img").count() == 0
        assert await visited.page.title() != "owned"
        await visited.page.goto(at(home, "/tasks"))
        await expect(visited.page.locator("tbody")).to_contain_text(HOSTILE)


async def test_a_page_goes_on_where_it_was_when_the_node_comes_back(
    browser: Browser, node: ApiNode, home: str
) -> None:
    node.bookmark = 0.2
    for number in range(1, 4):
        await node.say(f"event {number}")
    async with visit(browser, at(home, f"/tasks/{TASK}")) as visited:
        rows = visited.page.locator(".log tbody tr")
        await expect(rows).to_have_count(3)
        await expect(visited.page.locator(".waiting")).to_contain_text("votes of 2 members")
        await node.break_off()
        await expect(visited.page.locator("#notice")).to_contain_text("Trying again")
        for number in range(4, 6):
            await node.say(f"event {number}")
        await expect(rows).to_have_count(5)
        await expect(visited.page.locator("#notice")).to_be_hidden()
        assert [await row.locator("th").inner_text() for row in await rows.all()] == ["5", "4", "3", "2", "1"]
        assert [watch.from_revision for watch in node.watched] == [1, 4]


async def test_the_page_is_used_by_keyboard_alone(browser: Browser, home: str) -> None:
    async with visit(browser, home) as visited:
        page = visited.page
        await expect(page.get_by_role("heading", name="Network")).to_be_visible()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        for name in ("mlnet", "Network", "Tasks"):
            await page.keyboard.press("Tab")
            await expect(page.get_by_role("link", name=name, exact=True)).to_be_focused()
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "2px"
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
        await expect(page.locator("main")).to_be_focused()
        await expect(page.get_by_role("banner")).to_have_count(1)
        await expect(page.get_by_role("navigation")).to_have_count(1)
        await expect(page.get_by_role("main")).to_have_count(1)


@pytest.mark.timeout(300)
async def test_a_task_is_submitted_watched_to_its_end_and_its_model_loaded(
    browser: Browser, tmp_path: Path
) -> None:
    async with mission(1, "--dashboard", "127.0.0.1:0") as net:
        await net.start(3)
        home = net.nodes[0].page
        terms = {"max_nodes": 3, "max_committee_size": 2, "min_committee_size": 2}
        definition = net.definition(**terms).read_text()
        async with visit(browser, home) as visited:
            await expect(visited.page.get_by_role("row").filter(has_text="connected")).to_have_count(3)
            await look(visited, "network")
            await write(visited, definition)
            await submit(visited)
            await watch(visited.page)
            await keep_model(visited.page, tmp_path / "model.safetensors")
            await check_transcript(visited.page)
            await look(visited, "task")
            await visited.page.get_by_role("link", name="Tasks", exact=True).click()
            await expect(visited.page.locator("tbody tr")).to_have_count(1)
            await look(visited, "tasks")
            await cancel(visited, net)


async def write(visited: Visit, definition: str) -> None:
    """Write a definition with an error, which is shown at its line, and mend it."""
    page = visited.page
    await page.get_by_role("link", name="Submit", exact=True).click()
    editor = page.get_by_label("Task definition, YAML")
    await expect(page.locator(".verdict.good")).to_have_text("The definition is valid.")
    await editor.fill(definition.replace("CrossEntropy", "CrossEntropie", 1))
    await expect(page.locator(".verdict")).to_have_text("1 problem")
    await expect(page.locator(".gutter span[data-problem]")).to_have_count(1)
    problem = page.locator(".problems button")
    await expect(problem).to_contain_text("CrossEntropie")
    await problem.click()
    await expect(editor).to_be_focused()
    selected = await editor.evaluate("(area) => area.value.slice(0, area.selectionStart).split('\\n').length")
    shown = await page.locator(".gutter span[data-problem]").inner_text()
    assert str(selected) == shown
    await visited.screenshot("submit-problem-light")
    await editor.fill(definition)
    await expect(page.locator(".verdict")).to_have_text("The definition is valid.")
    await look(visited, "submit")


async def submit(visited: Visit) -> None:
    page = visited.page
    await page.get_by_label("File to upload").set_input_files(DIGITS)
    await page.get_by_label("Waiting period").fill("60s")
    await page.get_by_role("button", name="Submit", exact=True).click()
    await page.wait_for_url("**/tasks/*")


async def watch(page: Page) -> None:
    """Follow a task to its end, and find every part of it on its page."""
    await expect(page.locator(".state[data-state=completed]")).to_be_visible(timeout=WHOLE_TASK_MS)
    await expect(page.locator(".waiting")).to_have_text("The task has completed.")
    for phase in ("gather", "vote", "ping", "ready", "ballots", "train", "score", "reward"):
        await expect(page.locator(".phases li[data-at=done]").filter(has_text=phase)).to_have_count(1)
    cells = page.locator(".heat td.cell:not(.self)")
    await expect(cells).to_have_count(2)
    assert all(float(text) > 0 for text in await cells.all_inner_texts())
    await expect(page.locator(".segments li")).to_have_count(10)
    await expect(page.locator(".segments li.held")).to_have_count(2)
    members = page.get_by_role("region", name="Members").locator("tbody tr")
    await expect(members).to_have_count(3)
    await expect(page.get_by_role("group", name="Votes by cycle").locator("tbody tr")).to_have_count(3)
    await expect(page.get_by_role("region", name="Members")).to_contain_text("master")
    rewards = page.get_by_role("region", name="Rewards").locator("tbody tr")
    await expect(rewards).to_have_count(3)
    assert sum([float(await row.locator("td").last.inner_text()) for row in await rewards.all()]) == 100
    for chart in await page.locator(".plot").all():
        await expect(chart).to_have_attribute("aria-label", re.compile(r"\d+ points, from"))
    await page.get_by_text("The figures as a table").click()
    figures = page.get_by_role("group", name="Loss and accuracy by step").locator("tbody tr")
    await expect(figures.nth(3)).to_be_visible()
    await page.get_by_text("The figures as a table").click()
    numbers = [int(text) for text in await page.locator(".log tbody th").all_inner_texts()]
    assert numbers == sorted(set(numbers), reverse=True)


async def keep_model(page: Page, path: Path) -> None:
    async with page.expect_download() as started:
        await page.get_by_role("button", name="Download the model").click()
    await (await started.value).save_as(path)
    data = await asyncio.to_thread(path.read_bytes)
    assert hashlib.sha256(data).hexdigest() in await page.locator("main").inner_text()
    assert mlnet.load_model(path) is not None


async def check_transcript(page: Page) -> None:
    await page.get_by_role("button", name="Check the transcript").click()
    await expect(page.locator(".findings")).to_contain_text(
        "Everything that was signed follows from the rules."
    )
    await expect(page.locator(".findings")).to_contain_text("settled")


async def cancel(visited: Visit, net: Mission) -> None:
    """A task that waits for more nodes than there are is given up on its page."""
    page = visited.page
    await page.get_by_role("link", name="Submit", exact=True).click()
    await page.get_by_label("Task definition, YAML").fill(
        net.definition(min_nodes=4, max_nodes=5).read_text()
    )
    await submit(visited)
    await page.get_by_role("button", name="Cancel the task").click()
    await page.get_by_role("dialog").get_by_label("Reason").fill("not needed")
    await page.get_by_role("dialog").get_by_role("button", name="Cancel the task").click()
    await expect(page.locator(".state[data-state=cancelled]")).to_be_visible()
    await expect(page.locator(".head")).to_contain_text("not needed")


async def look(visited: Visit, name: str) -> None:
    """Keep what a page looks like in both themes, on a desk and on a phone, where it must fit."""
    for scheme in SCHEMES:
        await visited.page.emulate_media(color_scheme=scheme)
        for size, viewport in (("", DESKTOP), ("-phone", PHONE)):
            await visited.page.set_viewport_size(viewport)
            await expect(visited.page.locator("#notice")).to_be_hidden()
            assert await visited.overflow() <= 0
            await visited.screenshot(f"{name}-{scheme}{size}")
    await visited.page.set_viewport_size(DESKTOP)
    await visited.page.emulate_media(color_scheme=None)
