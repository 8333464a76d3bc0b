"""`laguna pull` from a hub of our own: what comes, what does not, and what happens when the line breaks."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import write_checkpoint

from laguna_backend.checkpoint.hub import is_name

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """One repository, `poolside/tiny`. `cut` breaks off the first answers of a file after so many bytes each; of those
    that are `refused` nothing comes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.cut: dict[str, list[int]] = {}
        self.refused: set[str] = set()
        self.asked: list[tuple[str, str]] = []  # a file and the range that was asked of it


class Answer(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        files: dict[str, bytes] = self.server.files
        if path.startswith("/api/models/poolside/tiny"):
            listed = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            if "/tree/" in path:
                listed = [{"type": "file", "path": n, "size": len(d), "oid": "0" * 40} for n, d in files.items()]
                self.send(200, json.dumps(listed).encode(), {"Content-Type": "application/json"}, body)
                return
            known = {"_id": "1", "id": "poolside/tiny", "sha": SHA, "private": False, "tags": [], "siblings": listed}
            self.send(200, json.dumps(known).encode(), {"Content-Type": "application/json"}, body)
            return
        name = path.rsplit("/", 1)[1]
        if not path.startswith("/poolside/tiny/resolve/") or name not in files:
            self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)
            return
        data = files[name]
        headers = {"X-Repo-Commit": SHA, "ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        begin = 0
        if wanted := self.headers.get("Range"):
            begin = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        if body:
            self.server.asked.append((name, wanted or ""))
            if name in self.server.refused:
                self.send(400, b"", {}, body)
                return
        cuts: list[int] = self.server.cut.get(name, []) if body else []
        self.send(206 if wanted else 200, data[begin:], headers, body, cuts.pop() if cuts else None)

    def send(self, status: int, data: bytes, headers: dict[str, str], body: bool, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data[:cut])
        if cut is not None:
            self.close_connection = True


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    server = Hub(write_checkpoint(tmp_path / "model"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def laguna(home: Path, port: int, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "5", "HF_HUB_ETAG_TIMEOUT": "5",
        "NO_PROXY": "*", "no_proxy": "*", "LAGUNA_KERNELS": "off",
    }  # fmt: skip
    command = [sys.executable, "-m", "laguna_backend", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)


def test_a_checkpoint_is_pulled_and_found_by_its_name(hub: Hub, tmp_path: Path) -> None:
    hub.files["surplus.bin"] = b"x" * 100
    home, port = tmp_path / "home", hub.server_port
    done = laguna(home, port, "pull", "poolside/tiny")
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert sorted(path.name for path in folder.iterdir()) == sorted(set(hub.files) - {"surplus.bin"})
    assert all((folder / name).read_bytes() == data for name, data in hub.files.items() if name != "surplus.bin")
    asked = len(hub.asked)
    spoken = laguna(home, 1, "generate", "poolside/tiny", "hi", "--max-tokens", "3")  # the hub is gone
    assert spoken.returncode == 0, spoken.stderr
    assert laguna(home, 1, "info", "poolside/tiny").stdout.startswith("name         poolside/tiny\n")
    assert len(hub.asked) == asked


def test_how_far_a_pull_is_can_be_watched(hub: Hub, tmp_path: Path) -> None:
    done = laguna(tmp_path / "home", hub.server_port, "pull", "poolside/tiny")
    assert done.returncode == 0, done.stderr
    assert "0%" in done.stderr  # a bar is drawn from nothing
    assert "100%" in done.stderr  # to the end, and on stderr: stdout has the directory and nothing else
    assert done.stdout.splitlines() == [done.stdout.strip()]


def test_two_pulls_at_once_share_a_cache(hub: Hub, tmp_path: Path) -> None:
    home, port = tmp_path / "home", hub.server_port
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: laguna(home, port, "pull", "poolside/tiny"), range(2)))
    assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
    assert both[0].stdout == both[1].stdout
    folder = Path(both[0].stdout.strip())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == hub.files


def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    weights = "model.safetensors"
    hub.cut = {weights: [len(hub.files[weights]) // 2]}
    done = laguna(tmp_path / "home", hub.server_port, "pull", "poolside/tiny")
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / weights).read_bytes() == hub.files[weights]
    assert [name for name, _ in hub.asked].count(weights) == 2


def test_a_pull_that_failed_goes_on_with_the_files_that_are_missing(hub: Hub, tmp_path: Path) -> None:
    weights, home = "model.safetensors", tmp_path / "home"
    hub.refused = {weights}
    failed = laguna(home, hub.server_port, "pull", "poolside/tiny")
    assert failed.returncode == 1
    assert "laguna: poolside/tiny cannot be had" in failed.stderr
    assert "pull again to go on" in failed.stderr
    assert "Traceback" not in failed.stderr
    hub.refused, hub.asked = set(), []
    done = laguna(home, hub.server_port, "pull", "poolside/tiny")
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / weights).read_bytes() == hub.files[weights]
    assert {name for name, _ in hub.asked} == {weights}


def test_what_cannot_be_had_is_told_in_a_line(hub: Hub, tmp_path: Path) -> None:
    home, port = tmp_path / "home", hub.server_port
    hub.files["config.json"] = json.dumps({"model_type": "llama"}).encode()
    for name, at, message in (
        ("poolside/tiny", 1, "the hub cannot be reached"),
        ("poolside/other", port, "the hub knows no such name"),
        ("poolside/tiny", port, "is no Laguna that is known here"),
        ("tiny", port, "is no name on the hub"),
    ):
        done = laguna(home, at, "pull", name)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(home.rglob("*.safetensors"))  # its configuration was refused before its weights came


def test_a_name_that_was_never_pulled_says_how(tmp_path: Path) -> None:
    done = laguna(tmp_path, 1, "generate", "poolside/never", "hi")
    assert done.returncode == 1
    assert "there is no checkpoint directory poolside/never; `laguna pull poolside/never` fetches it" in done.stderr


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("poolside/Laguna-XS.2", True), ("laguna", False), ("/a/b", False), ("a/b/c", False), ("../b", False)],
)
def test_a_name_is_two_words_and_a_stroke(text: str, is_one: bool) -> None:
    assert is_name(text) is is_one
