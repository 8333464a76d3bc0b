"""Runs an agent and keeps what both sides said: `python tee.py LOG COMMAND [ARG ...]`.

LOG has a line for each line on the wire: `{"from": "client" | "agent", "text": …}`, in the order they passed by here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import IO, BinaryIO


def copy(source: IO[bytes], target: BinaryIO | IO[bytes], who: str, log: IO[str], lock: threading.Lock) -> None:
    for line in source:
        with lock:
            log.write(json.dumps({"from": who, "text": line.decode("utf-8", "replace")}) + "\n")
            log.flush()
        target.write(line)
        target.flush()


def main(path: str, command: list[str]) -> int:
    lock = threading.Lock()
    with (
        open(path, "w", encoding="utf-8") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent,
    ):
        assert agent.stdin is not None
        assert agent.stdout is not None
        stdin, stdout = agent.stdin, agent.stdout

        def forward() -> None:
            try:
                copy(sys.stdin.buffer, stdin, "client", log, lock)
            finally:
                stdin.close()

        threading.Thread(target=forward, daemon=True).start()
        copy(stdout, sys.stdout.buffer, "agent", log, lock)
        return agent.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
