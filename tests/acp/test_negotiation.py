"""Which version two sides speak."""

from __future__ import annotations

import pytest

from acp.dialect import DIALECTS, agreed, negotiate
from acp.errors import ErrorCode, NegotiationError, RequestError


def test_the_highest_version_is_chosen_that_is_not_above_the_one_asked_for() -> None:
    assert negotiate(1) is DIALECTS[1]
    assert negotiate(2) is DIALECTS[2]
    assert negotiate(65535) is DIALECTS[2]
    assert negotiate(7, {1: DIALECTS[1]}) is DIALECTS[1]


def test_a_version_below_all_of_ours_is_refused_with_those_we_speak() -> None:
    with pytest.raises(RequestError) as refused:
        negotiate(0)
    assert refused.value.code == ErrorCode.UNSUPPORTED_PROTOCOL_VERSION
    assert refused.value.data == {"requested": 0, "supported": [1, 2]}


def test_the_client_judges_what_the_agent_chose() -> None:
    assert agreed(1) is DIALECTS[1]
    with pytest.raises(NegotiationError, match="version 9; this client speaks 1, 2"):
        agreed(9)
