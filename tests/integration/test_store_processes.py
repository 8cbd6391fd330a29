"""Child processes: their session, their end, their parent's end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from mlnet.util import subprocesses

PIPE = asyncio.subprocess.PIPE
ROOT = str(Path(subprocesses.__file__).parents[2])


async def child(code: str, *args: str) -> asyncio.subprocess.Process:
    argv = [sys.executable, "-c", code, *args]
    return await subprocesses.spawn(argv, env=os.environ | {"PYTHONPATH": ROOT}, stdout=PIPE)


async def line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return await process.stdout.readline()


async def test_a_child_has_a_session_of_its_own() -> None:
    process = await child("import os; print(os.getsid(0), flush=True); import signal; signal.pause()")
    assert int(await line(process)) == process.pid != os.getsid(0)
    assert await subprocesses.end(process, 30) == -signal.SIGTERM
    assert await subprocesses.end(process, 30) == -signal.SIGTERM


async def test_a_child_that_ignores_the_request_is_killed() -> None:
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\n"
    code += "while True: signal.pause()"
    process = await child(code)
    assert await line(process) == b"up\n"
    assert await subprocesses.end(process, 0.1) == -signal.SIGKILL


async def test_a_child_may_end_in_its_own_way() -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); "
    code += "signal.pause()"
    process = await child(code)
    assert await line(process) == b"up\n"
    assert await subprocesses.end(process, 30) == 7


async def test_a_child_of_another_parent_ends_at_once() -> None:
    code = "import sys; from mlnet.util.subprocesses import die_with_parent; "
    code += "die_with_parent(int(sys.argv[1])); print('on')"
    stray = await child(code, str(os.getpid() + 1))
    assert (await line(stray), await stray.wait()) == (b"", 1)
    ours = await child(code, str(os.getpid()))
    assert (await line(ours), await ours.wait()) == (b"on\n", 0)


async def test_a_wrapped_program_keeps_its_pid_and_arguments() -> None:
    process = await subprocesses.spawn(
        subprocesses.wrapped(["/bin/sh", "-c", 'echo "$$ $1"', "x", "a b"]), stdout=PIPE
    )
    assert await line(process) == b"%d a b\n" % process.pid
    assert await process.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent ended")
@pytest.mark.parametrize("kind", ["ours", "wrapped"])
async def test_a_killed_parent_takes_its_child_along(kind: str) -> None:
    inner = (
        "from mlnet.util.subprocesses import die_with_parent; die_with_parent(); print('up', flush=True); "
    )
    inner += "import signal; signal.pause()"
    code = (
        "import asyncio, sys\nfrom mlnet.util import subprocesses\nasync def main():\n"
        f"    argv = [sys.executable, '-c', {inner!r}]\n"
        "    if sys.argv[1] == 'wrapped':\n"
        "        argv = subprocesses.wrapped(['/bin/sh', '-c', 'echo up; read x'])\n"
        "    await subprocesses.spawn(argv, stdin=asyncio.subprocess.PIPE, stdout=None)\n"
        "    await asyncio.Event().wait()\nasyncio.run(main())\n"
    )
    parent = await child(code, kind)
    assert await line(parent) == b"up\n"
    parent.kill()
    await parent.wait()
    assert parent.stdout is not None
    # The child holds the other end of this pipe until it ends.
    async with asyncio.timeout(30):
        assert await parent.stdout.read() == b""
