"""What a transport reads in a text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp.transports.messages import Message, message_of, read_message


def read(**fields: Any) -> Message:
    return read_message(json.dumps({"jsonrpc": "2.0", **fields}).encode())


def test_kinds_and_sessions() -> None:
    prompt = read(id=1, method="session/prompt", params={"sessionId": "s", "prompt": []})
    assert (prompt.is_request, prompt.is_answer, prompt.session, prompt.id) == (True, False, "s", 1)
    update = read(method="session/update", params={"sessionId": "s"})
    assert (update.is_request, update.is_answer, update.session) == (False, False, "s")
    made = read(id="1", result={"sessionId": "new"})
    assert (made.is_answer, made.session, made.failed, made.id) == (True, "new", False, "1")
    assert read(id=1, error={"code": 1, "message": "x"}).failed
    assert read(id=1, result={"protocolVersion": 2}).version == 2
    assert read(method="$/cancel_request", params={"requestId": 7}).cancels == 7


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"1", b"\xff", b'{"id":1.5,"result":{}}', b"[" * 1000, b'{"id":true}']
)
def test_what_is_no_message_is_nothing(text: bytes) -> None:
    assert read_message(text) == Message()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["id", "method", "params", "result", "sessionId", "requestId", "error"]), x
            )
        ),
    )
)
def test_no_value_makes_it_raise(value: Any) -> None:
    message = message_of(value)
    assert not (message.is_request and message.is_answer)
    assert message.session is None or message.session


def test_an_id_of_a_session_that_is_too_long_is_none() -> None:
    assert read(method="x", params={"sessionId": "s" * 2000}).session is None
