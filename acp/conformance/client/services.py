"""Checks of the files and terminals that a client has for its agent, each where the client announced it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self
from uuid import uuid4

from ..walking import Json, Object, obj
from .part import Part
from .service import Service, absent, refused

TEXT = "first\nsecond é\nthird\nfourth\n"
READS, WRITES, TERMINALS = {"1": "fs.readTextFile"}, {"1": "fs.writeTextFile"}, {"1": "terminal"}
# Files ---------------------------------------------------------------------------------------------------------


class Scratch:
    """A file in the session's directory that is gone when the block is left; it is read and written at once."""

    def __init__(self, part: Part, text: str | None) -> None:
        cwd = part.variables.get("cwd")
        if not isinstance(cwd, str) or not os.path.isdir(cwd):
            part.fail(f"the session's directory {cwd!r} is none")
        self.path, self._text = Path(cwd) / f"acp-check-{uuid4().hex}.txt", text

    def __enter__(self) -> Self:
        if self._text is not None:
            self.path.write_bytes(self._text.encode())
        return self

    def __exit__(self, *exc: object) -> None:
        self.path.unlink(missing_ok=True)

    def read(self) -> bytes | None:
        """What is in it now; None if it is not there."""
        return self.path.read_bytes() if self.path.exists() else None


async def _read(part: Part, file: Scratch, **more: Json) -> str:
    params = {"sessionId": part.variables["session"], "path": str(file.path), **more}
    return str(obj(await part.call("fs/read_text_file", params)).get("content"))


async def reads(part: Part) -> None:
    with Scratch(part, TEXT) as file:
        if (text := await _read(part, file)) != TEXT:
            part.fail(f"{TEXT!r} was read as {text!r}")


async def reads_lines(part: Part) -> None:
    with Scratch(part, TEXT) as file:
        for given, wanted in (
            ({"line": 2}, "second é\nthird\nfourth"),
            ({"limit": 2}, "first\nsecond é"),
            ({"line": 2, "limit": 2}, "second é\nthird"),
            ({"line": 4, "limit": 9}, "fourth"),
        ):
            # Whether a piece ends with its line end is not said; that no line is missing is.
            if (text := (await _read(part, file, **given)).rstrip("\n")) != wanted:
                part.fail(f"with {given} {text!r} was read, not {wanted!r}")


async def reads_nothing(part: Part) -> None:
    with Scratch(part, None) as file:
        await refused(part, "fs/read_text_file", {"path": str(file.path)})
    await part.alive()


async def writes(part: Part) -> None:
    with Scratch(part, None) as file:
        for text in (TEXT, "", "shorter\r\n"):
            params = {"sessionId": part.variables["session"], "path": str(file.path), "content": text}
            await part.call("fs/write_text_file", params)
            if (written := file.read()) != text.encode():
                part.fail(f"{text!r} was written, and the file holds {written!r}")


# Terminals -----------------------------------------------------------------------------------------------------


async def _terminal(part: Part, code: str, **more: Json) -> str:
    session = part.variables["session"]
    params = {"sessionId": session, "command": sys.executable, "args": ["-I", "-S", "-c", code], **more}
    id: Json = obj(await part.call("terminal/create", params)).get("terminalId")
    if not isinstance(id, str):
        part.fail(f"the terminal has the id {id!r}")
    return id


async def _of(part: Part, id: str, what: str) -> Object:
    params = {"sessionId": part.variables["session"], "terminalId": id}
    return obj(await part.call(f"terminal/{what}", params))


async def runs(part: Part) -> None:
    """Create, wait, output, release: and then it is known no more."""
    id = await _terminal(part, "print('héllo'); raise SystemExit(3)")
    status = await _of(part, id, "wait_for_exit")
    if status.get("exitCode") != 3:
        part.fail(f"a command that ends with 3 ended with {status}")
    output = await _of(part, id, "output")
    if str(output.get("output")).strip() != "héllo" or output.get("truncated") is not False:
        part.fail(f"the output héllo is told as {output}")
    if obj(output.get("exitStatus")).get("exitCode") != 3:
        part.fail(f"the output of a command that has ended has the exit status {output.get('exitStatus')}")
    await _of(part, id, "release")


async def released(part: Part) -> None:
    id = await _terminal(part, "pass")
    await _of(part, id, "wait_for_exit")
    await _of(part, id, "release")
    await refused(part, "terminal/output", {"terminalId": id})


async def truncates(part: Part) -> None:
    """The beginning goes, at a whole character."""
    id = await _terminal(part, "print('a' * 90 + 'é' * 10, end='')", outputByteLimit=19)
    await _of(part, id, "wait_for_exit")
    output = await _of(part, id, "output")
    if output.get("output") != "é" * 9 or output.get("truncated") is not True:
        part.fail(f"the last whole characters of 19 bytes of output are told as {output}")
    await _of(part, id, "release")


async def kills(part: Part) -> None:
    """A killed command's terminal is still there."""
    id = await _terminal(part, "import time; print('up', flush=True); time.sleep(600)")
    running = await _of(part, id, "output")
    if running.get("exitStatus") is not None:
        part.fail(f"a command that runs has ended already: {running}")
    await _of(part, id, "kill")
    status = await _of(part, id, "wait_for_exit")
    if status.get("exitCode") == 0 and not status.get("signal"):
        part.fail(f"a killed command ended with {status}")
    await _of(part, id, "output")
    await _of(part, id, "release")


async def places(part: Part) -> None:
    """A command gets the directory and the variables that it was given."""
    cwd = part.variables["elsewhere"]
    env = [{"name": "ACP_CHECK", "value": "a b"}]
    code = "import os; print(os.environ.get('ACP_CHECK'), os.getcwd(), sep='|')"
    id = await _terminal(part, code, cwd=cwd, env=env)
    await _of(part, id, "wait_for_exit")
    output = str((await _of(part, id, "output")).get("output")).strip()
    if output != f"a b|{cwd}":
        part.fail(f"a command that was to run in {cwd} with ACP_CHECK='a b' says {output!r}")
    await _of(part, id, "release")


async def no_terminal(part: Part) -> None:
    await refused(part, "terminal/output", {"terminalId": "acp-check-no-such-terminal"})
    await part.alive()


# What was not announced ----------------------------------------------------------------------------------------


async def no_reads(part: Part) -> None:
    with Scratch(part, TEXT) as file:
        await refused(part, "fs/read_text_file", {"path": str(file.path)})


async def no_writes(part: Part) -> None:
    with Scratch(part, None) as file:
        await refused(part, "fs/write_text_file", {"path": str(file.path), "content": TEXT})
        if file.read() is not None:
            part.fail("the file was written all the same")


async def no_terminals(part: Part) -> None:
    await refused(part, "terminal/create", {"command": sys.executable, "args": ["-c", ""]})


SERVICES = (
    Service("fs.read", "A file is read as it is", ("ACP-139",), reads, READS),
    Service("fs.read-lines", "Lines are counted from 1, up to a limit", ("ACP-139",), reads_lines, READS),
    Service("fs.read-missing", "A file that is not there is an error", ("ACP-013",), reads_nothing, READS),
    Service("fs.write", "A written file is there, and holds what was written", ("ACP-139",), writes, WRITES),
    Service("terminal.run", "A command's output and exit are told", ("ACP-142",), runs, TERMINALS),
    Service("terminal.released", "A released terminal is known no more", ("ACP-142",), released, TERMINALS),
    Service("terminal.truncate", "Output over its limit loses its beginning", ("ACP-140",), truncates, TERMINALS),
    Service("terminal.kill", "A killed command's terminal stays", ("ACP-142",), kills, TERMINALS),
    Service("terminal.place", "A command has its directory and variables", ("ACP-026",), places, TERMINALS),
    Service("terminal.unknown", "An unknown terminal is an error", ("ACP-142",), no_terminal, TERMINALS),
    absent("fs.no-read", "Files are not read where that was not announced", READS, no_reads),
    absent("fs.no-write", "Files are not written where that was not announced", WRITES, no_writes),
    absent("terminal.none", "Commands are not run where that was not announced", TERMINALS, no_terminals),
)
