"""What a session's options mean for the model."""

from __future__ import annotations

from acp_server.model import Sampling
from acp_server.options import BRIEF, THOUGHT, Options
from acp_server.scripted import ScriptedBackend


def test_the_level_of_thought_is_a_switch_and_a_budget() -> None:
    options = Options({"m": ScriptedBackend()}, "m")
    found: dict[str, Sampling] = {}
    (listed,) = (option for option in options.listed() if option.id == THOUGHT)
    for choice in listed.choices:
        options.set(THOUGHT, choice.value)
        found[choice.value] = options.sampling(Sampling(seed=5))
    assert found == {
        "on": Sampling(seed=5),
        "brief": Sampling(seed=5, thinking_budget=BRIEF),
        "off": Sampling(seed=5, thinking=False),
    }
