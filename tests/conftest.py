"""Fixtures of every test."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is.
settings.register_profile("any-load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-load")

# Triton reads it once, when it is imported, which transformers does: its kernels run on the CPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Several processes share the cores when tests run side by side: more threads in each would only get in the way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A run in the background begins with SIGINT ignored, and what the tests start would begin so too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def state_directory() -> Iterator[None]:
    """Agents that the tests start keep their sessions where nobody will look for them."""
    with tempfile.TemporaryDirectory(prefix="acp-state-") as folder:
        os.environ["XDG_STATE_HOME"] = folder
        yield


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops, for every test marked `anyio`."""
    return str(request.param)
