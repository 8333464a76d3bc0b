"""Commands: what they are given, what is kept of what they say, and that nothing of them is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acp_server.workspace.output import Output, clean
from acp_server.workspace.process import Command, Ended, clean_environment, shell_command


def run(text: str, *, seconds: float = 60, cwd: str = "/", stop_after: str | None = None) -> tuple[Ended, str]:
    command = Command(shell_command(text), cwd=cwd, env=clean_environment(os.environ), seconds=seconds)
    if stop_after is not None:
        until(lambda: stop_after in command.output.text(1000))
        command.stop()
    assert command.wait(60)
    assert command.ended is not None
    return command.ended, command.output.text(10_000)


def until(true: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not (callable(true) and true()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return status[0] != "Z"


def test_output_of_both_streams_keeps_its_order() -> None:
    ended, text = run("for i in 1 2 3; do echo out$i; echo err$i >&2; done; exit 3")
    assert ended.code == 3
    assert text.split() == ["out1", "err1", "out2", "err2", "out3", "err3"]


def test_a_signal_is_a_negative_code() -> None:
    assert run("kill -9 $$")[0].code == -9


def test_a_command_gets_no_input() -> None:
    ended, text = run("cat; echo read")
    assert (ended.code, text) == (0, "read")


def test_secrets_and_shell_settings_are_kept_from_commands() -> None:
    given = {
        "HOME": "/home/x",
        "LANG": "C",
        **dict.fromkeys(
            ["GITHUB_TOKEN", "X_API_KEY", "aws_secret", "DB_PASSWORD", "AWS_REGION", "OPENAI_BASE", "LD_PRELOAD"], "s"
        ),
        **dict.fromkeys(["BASH_ENV", "ENV", "PROMPT_COMMAND", "GIT_DIR", "SSH_AUTH_SOCK", "BASH_FUNC_ls%%"], "s"),
    }
    kept = clean_environment(given)
    assert "s" not in kept.values()
    assert (kept["HOME"], kept["PAGER"], kept["TERM"], kept["CI"]) == ("/home/x", "cat", "dumb", "1")


def test_a_command_that_takes_too_long_is_stopped() -> None:
    ended, text = run("echo begun; sleep 600", seconds=2)
    assert ended.timed_out
    assert text == "begun"
    assert ended.seconds < 60


def test_a_command_that_ignores_the_polite_signal_is_killed() -> None:
    ended, text = run("trap '' TERM HUP INT; echo $$; echo ready; while :; do sleep 0.05; done", stop_after="ready")
    assert ended.seconds < 60
    assert not is_alive(int(text.split()[0]))


@pytest.mark.parametrize(
    "escape",
    [
        "sleep 600 & echo $!",
        "setsid sleep 600 & sleep 0.1; echo $!",
        "env -i setsid -f sleep 600.25; pgrep -f 'sleep 600.25' | head -1",
        "(setsid nohup sleep 600 >/dev/null 2>&1 & echo $!)",
    ],
)
def test_a_child_left_in_the_background_neither_holds_up_nor_survives(escape: str) -> None:
    if "pgrep" in escape and subprocess.run(["which", "pgrep"], capture_output=True, check=False).returncode:
        pytest.skip("there is no pgrep here")
    ended, text = run(escape)
    assert ended.code == 0
    assert ended.seconds < 60
    assert ended.left_behind >= 1
    until(lambda: not is_alive(int(text.split()[0])))


def test_a_child_that_ends_by_itself_may_still_finish_its_sentence() -> None:
    ended, text = run("echo one > >(sleep 0.05; cat; echo two)")
    assert (ended.code, text, ended.left_behind) == (0, "one\ntwo", 0)


def test_a_command_cannot_get_away_by_killing_its_supervisor() -> None:
    ended, text = run("echo $$; sleep 600 & echo $!; kill -9 $PPID; sleep 600")
    assert ended.code is None
    assert ended.problem == "its supervisor was killed"
    until(lambda: not any(is_alive(int(pid)) for pid in text.split()))


def test_commands_end_when_the_agent_is_killed(tmp_path: Path) -> None:
    agent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os; from acp_server.workspace.process import *\n"
            f"Command(shell_command('echo $$ > {tmp_path}/pid; exec sleep 600'), cwd='/', env=os.environ, seconds=600)"
            ".wait(600)",
        ]
    )
    pid = tmp_path / "pid"
    until(lambda: pid.exists() and pid.read_text().strip())
    agent.kill()
    agent.wait()
    until(lambda: not is_alive(int(pid.read_text())))


def test_endless_output_stays_within_bounds() -> None:
    command = Command(shell_command("yes"), cwd="/", env=clean_environment(os.environ), seconds=2, keep=1000)
    assert command.wait(60)
    text = command.output.text(500)
    assert len(text) < 600
    assert "characters left out" in text
    assert command.output.size > 1_000_000


def test_a_supervisor_that_cannot_start_the_command_says_so() -> None:
    command = Command(["/nonexistent/bash"], cwd="/", env={}, seconds=5)
    assert command.wait(60)
    assert command.ended is not None
    assert "No such file" in command.ended.problem


def test_no_descriptor_is_left_open() -> None:
    script = (
        "import os; from acp_server.workspace.process import *\n"
        "def run():\n"
        "    command = Command(shell_command('echo x'), cwd='/', env=os.environ, seconds=9)\n"
        "    assert command.wait(9); command.stop()\n"
        "    return len(os.listdir('/proc/self/fd'))\n"
        "assert run() == run() == run()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_output_reads_as_a_terminal_would_leave_it() -> None:
    assert clean(b"\x1b[31mred\x1b[0m \x1b]0;title\x07ok\r\n") == "red ok"
    assert clean(b"10%\r50%\r100%\ndone\n") == "100%\ndone"
    assert clean(b"a\x00b\xff\x07") == "a\ufffdb\ufffd\ufffd"
    assert clean("ä".encode()) == "ä"


def test_the_count_of_what_was_left_out_is_of_characters() -> None:
    output = Output(100)
    for _ in range(100):
        output.add("äöü123456\n".encode())
    text = output.text(100)
    head, _, rest = text.partition("\n[… ")
    count, _, tail = rest.partition(" characters left out …]\n")
    assert len(head) + int(count) + len(tail) + 1 == pytest.approx(1000, abs=12)


def test_short_output_is_whole() -> None:
    output = Output(10)
    output.add(b"12345678")
    output.add(b"9012345678\n")
    assert output.text(100) == "123456789012345678"
    assert not output.truncated


def test_signals_sent_to_the_own_group_do_not_reach_the_agent() -> None:
    signals: list[int] = []
    was = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        ended, _ = run("kill 0")
    finally:
        signal.signal(signal.SIGTERM, was)
    assert ended.code == -signal.SIGTERM
    assert not signals
