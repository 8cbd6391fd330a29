"""One task of a user at a terminal, from the announcement to the end."""

from __future__ import annotations

import asyncio

from mlnet.cli import traffic
from mlnet.cli.controls import Controls, Job, entered
from mlnet.client import connecting, outputs, request
from mlnet.client.result import Result
from mlnet.client.submission import Submission
from mlnet.driver.options import ClientOptions
from mlnet.protocol.commands import Report
from mlnet.sdk.display import Display
from mlnet.util.wording import TASK_LENGTH


async def submit(options: ClientOptions, job: Job, display: Display, controls: Controls) -> Result:
    """Have a task carried out.

    Args:
        options: of the client.
        job: what to do.
        display: shows its course.
        controls: the user's.

    Raises:
        MlnetError: the task could not be begun.
    """
    shown = traffic.observer(display.verbatim) if job.show_messages else traffic.ignore

    def observe(report: Report) -> None:
        display.report(report)
        if report.what == "answer" and controls.submission is not None:
            _close_enrolment(controls.submission, job.enough)

    asked: request.TaskRequest | None = None
    if job.resume is None:
        # Before the network is asked: no peer is needed to see that these are wrong.
        asked = request.read(job.file, job.waiting_period)
        if job.output is not None:
            outputs.check(outputs.absolute(job.output), private=options.data_dir)
    said: set[str] = set()

    def notice(text: str) -> None:
        if text not in said:
            said.add(text)
            display.say(text, "yellow")

    # Looked for while the dataset is cut, and waited for when that has gone well.
    async with connecting.connected(options, shown, notice, resume=job.resume, waits=False) as connected:
        controls.doing = connected.doing
        if asked is not None:
            submission = await connected.submit(asked, output=job.output, observe=observe)
        else:
            submission = await connected.resume(job.resume or "", output=job.output, observe=observe)
            if submission.machine.bound:
                display.decided(submission.machine.attempted.decision().ready)
        controls.submission = submission
        cluster = submission.machine.definition.cluster
        bounds = f"{cluster.min_nodes} to {cluster.max_nodes} nodes within {cluster.waiting_period}"
        names = "a node is named by the end of its peer id"
        display.begin(f"Task {submission.task[:TASK_LENGTH]}", f"for {bounds}; {names}")
        display.enter(submission.machine.phase.value)
        with entered(controls.on_enter):
            return await submission.result()


def _close_enrolment(submission: Submission, enough: int | None) -> None:
    if enough is not None and submission.gathering and len(submission.machine.answers) >= enough:
        # Not at once: the machine is in the middle of the step that this answer is part of.
        asyncio.get_running_loop().call_soon(submission.close_enrolment)
