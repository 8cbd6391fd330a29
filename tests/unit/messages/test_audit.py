"""What an audit finds in the messages of a whole task, when one of them is missing or says something else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import pytest
from support.message_cases import Case, check
from support.protocol_world import World, masked, resealed
from support.transcripts import Change, changed, closed, counting, forged, messages, naming, without

from mlnet.cli import replay as replaying
from mlnet.driver import transcript
from mlnet.protocol.audit import audit
from mlnet.protocol.commands import Send
from mlnet.protocol.events import Received
from mlnet.protocol.wire.messages import Message, NewMlTask

OTHER = "ab" * 32


@pytest.fixture(scope="module")
def finished() -> World:
    world = World(3)
    world.submit()
    world.run()
    return world


def test_what_an_audit_finds(tmp_path: Path, finished: World) -> None:
    def found(change: Change) -> Case:
        def case(_: Path) -> str:
            result = audit(change(finished, messages(finished)), finished.parties[finished.clients[0]].signer)
            lies = [f"{lie.peer} {lie.what}" for lie in result.lies]
            return masked(finished, "\n".join(result.missing + lies) or "nothing")

        return case

    def announced(definition: str) -> Change:
        def change(world: World, said: list[Message]) -> list[Message]:
            body = cast(NewMlTask, said[0].body)
            signer = world.parties[said[0].sender].signer
            return [signer.sign(msgspec.structs.replace(body, definition=definition), sent=said[0].sent)]

        return change

    def two_ready(world: World, said: list[Message]) -> list[Message]:
        ready = next(one for one in said if one.type == "CLUSTER_READY")
        return [*said, resealed(world, ready, decision=OTHER)]

    def elsewhere(world: World, ballot: Message) -> Message:
        signer = world.parties[ballot.sender].signer
        return signer.sign(ballot.body, task=OTHER, attempt=ballot.attempt, sent=ballot.sent)

    segments = tuple(f"{number:064x}" for number in range(10))
    check(
        "audit",
        {
            "all is well": found(lambda _, said: said),
            "no announcement": found(without("NEW_ML_TASK")),
            "a definition that is none": found(announced("version: 1")),
            "no members": found(without("CLUSTER_MEMBERS", "DATASET_SELECTION")),
            "no members of the attempt": found(without("CLUSTER_MEMBERS")),
            "members of another attempt": found(
                lambda world, said: [
                    resealed(world, one, attempt=2) if one.type == "DATASET_SELECTION" else one
                    for one in said
                ]
            ),
            "a member twice": found(naming(lambda _, inits: [*inits, inits[0]])),
            "an answer that nobody signed": found(naming(lambda _, inits: [*inits[1:], forged(inits[0])])),
            "no open port": found(naming(lambda world, inits: [closed(world, one) for one in inits])),
            "no ping times": found(without("CLUSTER_DATABASE_SELECTION")),
            "ping times to nobody": found(changed("CLUSTER_DATABASE_SELECTION", pings={})),
            "another decision of a member": found(changed("CLUSTER_READY", "node0", decision=OTHER)),
            "two decisions of a member": found(two_ready),
            "no segments": found(without("DATASET_SELECTION")),
            "another decision of the client": found(changed("DATASET_SELECTION", decision=OTHER)),
            "no ballots": found(without("HASH_VOTES")),
            "ballots with other secrets": found(changed("HASH_VOTES", of="ballot", secret=OTHER)),
            "a ballot of another task": found(
                counting(lambda world, cast: [*cast, elsewhere(world, cast[0])])
            ),
            "another order of a member": found(changed("HASH_VOTES", "node0", of="order", ranking=segments)),
            "a result of nobody": found(changed("TRAINING_COMPLETED", "node0", contributions={})),
            "no results": found(without("TRAINING_COMPLETED")),
            "another result of a member": found(changed("TRAINING_COMPLETED", "node0", accuracy=0.5)),
            "another split of a member": found(changed("REWARDS", "node0", split={})),
        },
        tmp_path,
    )


def test_replay(tmp_path: Path, finished: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A transcript as a file: whole, changed, and signed by somebody else."""

    def written(directory: Path, said: Sequence[Message]) -> Path:
        book = transcript.Transcript(directory / "task.jsonl", finished.clients[0], said[0].task)
        for message in said:
            own = message.sender == finished.clients[0]
            book.step(None if own else Received(message), [Send((), message, 0)] if own else [])
        book.close()
        return directory / "task.jsonl"

    def cut(directory: Path) -> object:
        path = written(directory, messages(finished))
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([lines[0], *lines[2:]]))
        return replaying.replay(path)

    def signed_by_nobody(directory: Path) -> object:
        said = messages(finished)
        said[1] = forged(said[1])
        return replaying.replay(written(directory, said))

    def lies(directory: Path) -> object:
        said = changed("REWARDS", "node0", split={})(finished, messages(finished))
        code = replaying.replay(written(directory, said))
        return f"{capsys.readouterr().out}(exit code {code})"

    def in_names(case: Case) -> Case:
        def named_case(directory: Path) -> str:
            try:
                return masked(finished, str(case(directory)))
            except Exception as error:
                raise type(error)(masked(finished, str(error))) from error

        return named_case

    check(
        "replay",
        {
            "a line was removed": in_names(cut),
            "a signature of somebody else": in_names(signed_by_nobody),
            "a lie": in_names(lies),
        },
        tmp_path,
    )
