"""A model whose place the client chooses, over real sockets."""

from __future__ import annotations

import anyio
import pytest
from openai_endpoint import DONE, delta, endpoint, head, says

from acp.errors import RequestError
from acp_server.model import Sampling, System, Text, User
from acp_server.openai.endpoint import Endpoint
from acp_server.openai.routed import RoutedBackend

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Async generator 'httpcore2.*:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Async generator 'httpx2.*:ResourceWarning"),
]
HI = [System("Be."), User("Hi")]


async def test_a_step_ends_where_it_began_and_the_next_one_goes_where_the_client_said() -> None:
    moved = anyio.Event()
    first = [head(), delta(role="assistant", content="One "), moved.wait, delta(content="two."), delta("stop"), DONE]
    second = [head(), delta(role="assistant", content="Three."), delta("stop"), DONE]
    async with endpoint(says(*first)) as here, endpoint(says(*second)) as there:
        model = RoutedBackend(Endpoint(here.url, retries=0))
        words: list[str] = []
        with anyio.fail_after(60):
            async for part in model.generate(HI, (), Sampling()):
                if isinstance(part, Text):
                    words.append(part.text)
                    if not moved.is_set():
                        await model.set_provider("main", "openai", there.url, {"X-Key": "k"})
                        moved.set()
            words += [p.text async for p in model.generate(HI, (), Sampling()) if isinstance(p, Text)]
        assert "".join(words) == "One two.Three."
        assert {asked.headers.get("x-key") for asked in there.asked} == {"k"}
        assert all("x-key" not in asked.headers for asked in here.asked)
        await model.set_provider("main", "openai", here.url, {})
        with pytest.raises(RequestError):
            await model.disable_provider("other")
        await model.aclose()
