"""Everybody who waits for the guests to go learns that they have."""

from __future__ import annotations

import anyio
import pytest

from acp_server.network.visits import Visits

pytestmark = pytest.mark.anyio


async def test_two_who_wait_until_nobody_is_there_both_learn_it() -> None:
    visits = Visits(talk=_nobody_talks, opening=30)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            with visits.busy():
                group.start_soon(visits.wait_gone)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(visits.wait_gone)
                await anyio.wait_all_tasks_blocked()


async def _nobody_talks(*_: object) -> None:
    raise AssertionError("nobody was let in")
