"""A PostgreSQL of our own, from the system's package: made in a temporary directory, gone with the block."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def binary(name: str) -> str | None:
    """A program of PostgreSQL's; Debian keeps the newest in a directory of its version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    return str(found[-1]) if found else shutil.which(name)


def missing() -> str | None:
    """Why there can be no PostgreSQL here; None if there can."""
    if binary("initdb") is None or binary("postgres") is None:
        return "PostgreSQL is not installed (Debian: postgresql)"
    if os.getuid() == 0 and subprocess.run(["id", "postgres"], capture_output=True, check=False).returncode:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


class PostgresServer:
    """`url` is that of its superuser; the socket is in `directory`, and nothing listens on the network."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"postgresql:///postgres?host={directory}&user=acp"
        self._data = directory / "data"
        self._user = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to be run by root
        self._process: subprocess.Popen[bytes] | None = None

    def initialize(self) -> None:
        if self._user is not None:
            shutil.chown(self.directory, self._user, self._user)
        program = binary("initdb")
        assert program is not None
        command = [program, "--pgdata", str(self._data), "--username", "acp", "--auth", "trust", "--no-sync"]
        command += ["--encoding", "UTF8", "--no-locale", "--no-instructions"]
        subprocess.run(command, check=True, user=self._user, group=self._user, extra_groups=[], capture_output=True)

    def start(self, *, fsync: bool = False) -> None:
        """Run it. Without `fsync` it survives our killing it, though not the end of the machine, and is quicker."""
        program, ready = binary("postgres"), binary("pg_isready")
        assert program is not None
        assert ready is not None
        command = [program, "-D", str(self._data), "-k", str(self.directory), "-c", "listen_addresses="]
        command += ["-c", "max_connections=60", "-c", "shared_buffers=16MB", "-c", f"fsync={'on' if fsync else 'off'}"]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, user=self._user, group=self._user, extra_groups=[]
            )
        for _ in range(600):
            done = subprocess.run([ready, "-h", str(self.directory), "-t", "1"], capture_output=True, check=False)
            if done.returncode == 0:
                return
            if self._process.poll() is not None:
                break
        raise RuntimeError((self.directory / "log").read_text())

    def stop(self, *, at_once: bool = True) -> None:
        """End it, as if its machine failed or in order."""
        if self._process is not None:
            # SIGQUIT and SIGINT: "immediate" and "fast" shutdown.
            self._process.send_signal(3 if at_once else 2)
            self._process.wait(30)
            self._process = None


@contextmanager
def postgres_server(*, fsync: bool = False) -> Generator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="acp-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        server.initialize()
        try:
            server.start(fsync=fsync)
            yield server
        finally:
            server.stop()
