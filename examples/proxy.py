"""A proxy: it tells the agent the date with every prompt, and counts what the agent says on stderr.

acp conductor --proxy "python examples/proxy.py" -- acp agent
"""

from __future__ import annotations

import datetime
import sys
from typing import Any

import anyio

from acp.proxy import Passing, Proxy, run_proxy

proxy = Proxy("dated")


@proxy.from_client("session/prompt")
async def prompt(passing: Passing) -> Any:
    note = {"type": "text", "text": f"(Today is {datetime.date.today():%A, %d %B %Y}.)"}
    return await passing.forward({**passing.params, "prompt": [*passing.params["prompt"], note]})


@proxy.from_agent("session/update")
async def update(passing: Passing) -> None:
    print(passing.params["update"]["sessionUpdate"], file=sys.stderr)
    await passing.forward()


if __name__ == "__main__":
    anyio.run(run_proxy, proxy)
