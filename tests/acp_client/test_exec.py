"""`acp exec` as a user runs it: real processes, real signals, real files."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "acp", "exec"]
PATIENT = [
    sys.executable,
    "-c",
    "from acp_client.cli import exec as e; e.LAST_CHANCE = 600; raise SystemExit(e.main())",
]
"""The same, and it would wait ten minutes for an agent that does not end its turn."""
HOSTILE = str(Path(__file__).with_name("hostile_agent.py"))
SCRIPTED = ("--backend", "scripted")

Done = subprocess.CompletedProcess[bytes]


def run(*arguments: str, cwd: Path, stdin: bytes | None = None, env: Mapping[str, str] | None = None) -> Done:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=100,
        env={**os.environ, **(env or {})},
        check=False,
    )


def hostile(way: str) -> tuple[str, str]:
    return ("--agent", shlex.join([sys.executable, HOSTILE, way]))


def events(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("x = 1\ny = 2\n")
    return tmp_path


def test_a_prompt_becomes_a_real_edit_that_the_user_watches(repository: Path) -> None:
    script = (
        "think Let me look.\nread a.py\nedit a.py 'x = 1' 'x = 3'\nrun cat a.py; echo to stderr >&2\nsay Changed x."
    )
    done = run(*SCRIPTED, "--allow", "all", "--log-json", "log", script, cwd=repository)
    assert done.returncode == 0, done.stderr
    assert (repository / "a.py").read_text() == "x = 3\ny = 2\n"
    shown = done.stdout.decode()
    assert "\x1b" not in shown  # it is no terminal
    story = ["Let me look.", "● Read a.py", "  x = 1", "● Edit a.py", "  @@ -1,2 +1,2 @@", "  -x = 1", "  +x = 3"]
    story += ["● `cat a.py", "  x = 3", "  to stderr", "Changed x.", "-- end_turn, ", " tokens in, ", " out, "]
    places = [shown.find(words) for words in story]
    assert -1 not in places
    assert places == sorted(places)
    assert " tokens/s, " in shown
    log = events((repository / "log").read_bytes())
    assert [event["update"]["name"] for event in log if event["type"] == "tool_call"] == ["read", "edit", "shell"]


def test_json_is_one_event_a_line_and_the_last_is_the_result(repository: Path) -> None:
    done = run(*SCRIPTED, "--json", "--allow", "edits", "read a.py\nedit a.py 1 5\nsay ok", cwd=repository)
    assert done.returncode == 0
    first, *_, last = said = events(done.stdout)
    assert {event["schema_version"] for event in said} == {1}
    assert (first["type"], first["cwd"], first["protocol_version"]) == ("session", str(repository), 1)
    assert {"tool_call", "tool_call_update", "agent_message_chunk"} <= {event["type"] for event in said}
    assert sum(event["type"] == "result" for event in said) == 1
    assert (last["type"], last["exit_code"], last["status"], last["text"]) == ("result", 0, "done", "ok")
    assert last["usage"]["output"] == 1
    assert last["stop_reason"] == "end_turn"


def test_without_a_terminal_a_question_stops_the_turn(repository: Path) -> None:
    done = run(*SCRIPTED, "--json", "run touch made", cwd=repository)
    assert done.returncode == 3
    assert not (repository / "made").exists()
    said = events(done.stdout)
    [asked] = [event for event in said if event["type"] == "permission"]
    assert asked["answer"] is None
    assert {option["kind"] for option in asked["options"]} >= {"allow_once", "reject_once"}
    assert said[-1]["status"] == "permission"
    assert b"--allow" in done.stderr


def test_edits_go_without_asking_and_commands_do_not(repository: Path) -> None:
    done = run(*SCRIPTED, "--allow", "edits", "write b.txt hello\nrun touch made", cwd=repository)
    assert done.returncode == 3
    assert (repository / "b.txt").read_text() == "hello"
    assert not (repository / "made").exists()


@pytest.mark.parametrize(
    ("reason", "status"), [("refusal", 4), ("max_tokens", 5), ("max_turn_requests", 5), ("cancelled", 1)]
)
def test_the_exit_status_says_how_the_turn_ended(reason: str, status: int, repository: Path) -> None:
    done = run("--json", *hostile(f"end:{reason}"), "hi", cwd=repository)
    assert done.returncode == status
    assert events(done.stdout)[-1]["stop_reason"] == reason


@pytest.mark.parametrize(
    ("way", "status", "words"),
    [
        ("crash", 1, "Segmentation fault, says the agent"),
        ("future", 1, "protocol version 99"),
        ("login", 1, "log in first"),
    ],
)
def test_an_agent_that_behaves_badly_is_an_error_with_its_words(
    way: str, status: int, words: str, tmp_path: Path
) -> None:
    done = run("--json", *hostile(way), "hi", cwd=tmp_path)
    assert done.returncode == status
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    last = events(done.stdout)[-1]
    assert (last["type"], last["status"]) == ("result", "error")
    assert words in last["error"]


def test_an_agent_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = run("--agent", "no-such-agent --acp", "hi", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode().strip() == "acp exec: agent command not found: no-such-agent"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--model", "/no/such"], "there is no checkpoint directory /no/such"),
        (["--backend-option", "wings=2"], "--backend-option wings: the options of the backend laguna are: "),
    ],
)
def test_options_that_our_agent_does_not_take_are_wrong_use_in_one_line(
    words: list[str], complaint: str, tmp_path: Path
) -> None:
    done = run(*words, "hi", cwd=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.decode().splitlines()
    assert line.startswith(f"acp exec: {complaint}")


def test_a_prompt_of_a_megabyte_comes_through_stdin_and_through_a_file(tmp_path: Path) -> None:
    text = "ä" * 500_000
    done = run(*hostile("measure"), "-", cwd=tmp_path, stdin=text.encode())
    assert (done.returncode, done.stdout.decode().splitlines()[0]) == (0, "500000 characters")
    (tmp_path / "prompt").write_text(text, encoding="utf-8")
    done = run(*hostile("measure"), "-f", "prompt", cwd=tmp_path)
    assert (done.returncode, done.stdout.decode().splitlines()[0]) == (0, "500000 characters")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_an_agent_says_cannot_act_on_the_terminal(encoding: str, tmp_path: Path) -> None:
    done = run(*hostile("tricks"), "hi", cwd=tmp_path, env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0
    letter = "ä".encode() if encoding == "utf-8" else b"\\xe4"
    assert done.stdout.splitlines()[0] == b"\\x1b[2Jgone\\u202eevil\\u200b " + letter + b"\\x9b1m\\r"


# Stopping it ------------------------------------------------------------------------------------------


def stopped(
    *arguments: str, cwd: Path, at: bytes, numbers: list[signal.Signals], command: Sequence[str] = COMMAND
) -> tuple[int, bytes, float]:
    """Run until `at` is shown, then send signals; the status, what was shown, and the seconds it took to end."""
    process = subprocess.Popen([*command, *arguments], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        shown = b""
        while at not in shown:
            data = os.read(process.stdout.fileno(), 4096)
            assert data, shown
            shown += data
        began = time.monotonic()
        for number in numbers:
            process.send_signal(number)
        shown += process.stdout.read()
        return process.wait(timeout=60), shown, time.monotonic() - began


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_turn(number: signal.Signals, status: int, repository: Path) -> None:
    code, shown, _ = stopped(*SCRIPTED, "--json", "slow", cwd=repository, at=b'"2 "', numbers=[number])
    assert code == status
    last = events(shown)[-1]
    assert (last["type"], last["exit_code"], last["stop_reason"]) == ("result", status, "cancelled")


def test_an_agent_that_does_not_end_its_turn_is_ended_after_two_seconds(tmp_path: Path) -> None:
    code, _, seconds = stopped(*hostile("stubborn"), "hi", cwd=tmp_path, at=b"working", numbers=[signal.SIGINT])
    assert code == 130
    assert seconds > 1.5


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    both = [signal.SIGINT, signal.SIGTERM]  # two of one kind may become one
    code, _, _ = stopped(*hostile("stubborn"), "hi", cwd=tmp_path, at=b"working", numbers=both, command=PATIENT)
    assert code in (130, 143)


@pytest.mark.parametrize("seconds", [0.01, 0.2, 0.5])
def test_an_interrupt_while_it_starts_ends_it(seconds: float, tmp_path: Path) -> None:
    code = "from acp_client.cli.exec import main; print('up', flush=True); raise SystemExit(main())"
    command = [sys.executable, "-c", code, *hostile("silent"), "hi"]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=tmp_path, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing) as process:
        assert process.stdout is not None
        process.stdout.readline()  # before that Python begins and imports, and answers an interrupt as it likes
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) in (130, -signal.SIGINT)  # the latter before our code runs


def test_a_timeout_cancels_the_turn(repository: Path) -> None:
    done = run(*SCRIPTED, "--json", "--timeout", "1.5", "say begun\nhang", cwd=repository)
    assert done.returncode == 124
    last = events(done.stdout)[-1]
    assert (last["status"], last["stop_reason"]) == ("timeout", "cancelled")


def test_a_closed_pipe_ends_it_quietly(repository: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, *SCRIPTED, "slow"], cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(3)
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == b""


def test_closed_standard_descriptors_break_nothing(repository: Path) -> None:
    command = shlex.join([*COMMAND, *SCRIPTED, "--allow", "edits", "--log-json", "log", "write b.txt b"])
    done = subprocess.run(["sh", "-c", f"{command} <&- >&- 2>&-"], cwd=repository, timeout=100, check=False)
    assert done.returncode == 0
    assert (repository / "b.txt").read_text() == "b"
    assert events((repository / "log").read_bytes())[-1]["status"] == "done"


def test_a_full_disk_is_an_error(repository: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    done = run(*SCRIPTED, "--log-json", "/dev/full", "say hi", cwd=repository)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr
