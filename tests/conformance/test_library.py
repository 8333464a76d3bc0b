"""The checks in other people's hands: as a library, as tests of pytest, and from a wheel, outside of any checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import acp.conformance
from acp.conformance import AgentSettings, check_agent

ROOT = Path(__file__).resolve().parents[2]
DOUBLE = Path(__file__).parent / "doubles" / "agent.py"


def test_all_names_of_the_library_are_there() -> None:
    assert all(getattr(acp.conformance, name) for name in acp.conformance.__all__)
    with pytest.raises(AttributeError, match="no attribute 'check_nobody'"):
        acp.conformance.check_nobody  # noqa: B018


@pytest.mark.anyio
async def test_a_command_line_is_judged_by_a_call() -> None:
    settings = AgentSettings(version=2, timeout=60)
    report = await check_agent(f"{sys.executable} -S -E {DOUBLE} 2", settings, only=["turn.tour", "init.info"])
    assert (report.conformant, report.name, report.failed()) == (True, "double 1", [])


def judged(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """What pytest says of a double, in a project of its own."""
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-rsx",
        "--color=no",
        *arguments,
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    return done.returncode, done.stdout + done.stderr


def test_a_check_is_a_test_and_runs_beside_the_projects_own(tmp_path: Path) -> None:
    agent = f"{sys.executable} -S -E {DOUBLE} 1"
    status, said = judged(
        tmp_path, "--acp-agent", agent, "-k", "test_own or turn.tour or wire.utf8 or wire.plans", "-v"
    )
    assert status == 0, said
    assert "acp-agent-v1::turn.tour PASSED" in said
    assert "acp-agent-v1::wire.utf8 PASSED" in said
    assert "3 passed" in said


def test_a_failure_shows_the_transcript_and_advice_is_no_failure(tmp_path: Path) -> None:
    agent = f"{sys.executable} -S -E {DOUBLE}"
    status, said = judged(tmp_path, "--acp-agent", f"{agent} 1 own-reason", "-k", "turn.tour or wire.members", "-v")
    assert status == 1
    assert "A turn runs to its end [ACP-100 ACP-102 ACP-106]" in said
    assert '"stopReason": "done"' in said
    status, said = judged(tmp_path, "--acp-agent", f"{agent} 1 own-member", "-k", "turn.tour or wire.members", "-v")
    assert status == 0, said
    assert "1 xfailed" in said
    assert "advisory: the answer to initialize: mine" in said


def test_without_an_option_the_plugin_collects_and_imports_nothing(tmp_path: Path) -> None:
    code = "import sys, acp.conformance.pytest_plugin; sys.exit('jsonschema' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    status, said = judged(tmp_path, "-q")
    assert (status, "1 passed" in said) == (0, True)


def test_without_the_extra_the_command_says_what_is_missing() -> None:
    hide = "import sys; sys.modules['jsonschema'] = None; from acp.__main__ import main; "
    code = hide + "sys.exit(main(['check', 'agent']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, "acp check needs jsonschema: pip install 'acp-laguna[check]'\n")


def test_a_wheel_judges_outside_of_the_checkout(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "site"
    for name in ("acp", "spec"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "-w", tmp_path, source], check=True, timeout=110, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    # Isolated from the checkout: what is installed beside the editable project is all that is seen of this environment.
    libraries = sysconfig.get_path("purelib")
    code = (
        f"import sys; sys.path[:0] = [{str(target)!r}]; sys.path.append({libraries!r}); sys.meta_path[:] = "
        "[finder for finder in sys.meta_path if 'editable' not in str(finder).lower()]; "
        "import acp.conformance.facts, acp.conformance.__main__; print(acp.conformance.facts.SPEC); "
        "sys.exit(acp.conformance.__main__.main(sys.argv[1:]))"
    )
    options = [
        "agent",
        "--only",
        "turn.tour",
        "--html",
        str(tmp_path / "a.html"),
        "--",
        sys.executable,
        str(DOUBLE),
        "1",
    ]
    check = [sys.executable, "-I", "-S", "-c", code, *options]
    done = subprocess.run(check, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(target))
    assert "CONFORMANT: double 1" in done.stdout
