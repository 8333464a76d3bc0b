"""Where a conductor sends what: every message, whole, to the right hop under the right id, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp.proxy.chain import Chain
from acp.proxy.routes import MOST_OPEN
from acp.transports import Oversize

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
IDS = st.none() | st.integers() | st.text(max_size=6)
PARAMS = st.just({}) | st.fixed_dictionaries(
    {"params": st.dictionaries(st.text(max_size=5), JSON, max_size=3) | st.lists(JSON, max_size=3)}
)
METHODS = st.sampled_from(["session/prompt", "session/update", "_own/x", "no/such"]) | st.text(min_size=1).filter(
    lambda name: name not in ("initialize", "proxy/initialize", "proxy/successor", "$/cancel_request")
)


def chain(proxies: int = 2) -> Chain:
    return Chain(["client", *(f"proxy {n + 1}" for n in range(proxies)), "agent"])


def text(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


def successor(method: str, params: Any = None, **rest: Any) -> bytes:
    return text(method="proxy/successor", params={"method": method, "params": params}, **rest)


def travel(chain: Chain, hop: int, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Through proxies that pass everything on, each in its own words and under its own id, to the far end."""
    towards_agent = hop == 0
    while True:
        [(hop, message)] = chain.receive(hop, json.dumps(message).encode())
        if hop in (0, chain.agent):
            return hop, message
        if "id" in message:
            message = {**message, "id": f"p{hop}-{message['id']}"}
        if towards_agent:
            inner = {key: message[key] for key in ("method", "params") if key in message}
            message = {key: message[key] for key in ("jsonrpc", "id") if key in message}
            message |= {"method": "proxy/successor", "params": inner}
        else:
            message = {"jsonrpc": "2.0", **message["params"], **({"id": message["id"]} if "id" in message else {})}


@given(st.integers(0, 3), st.booleans(), METHODS, PARAMS)
def test_a_notification_crosses_the_chain_whole(proxies: int, down: bool, method: str, params: dict[str, Any]) -> None:
    c = chain(proxies)
    start, end = (0, c.agent) if down else (c.agent, 0)
    hop, message = travel(c, start, {"jsonrpc": "2.0", "method": method, **params})
    assert hop == end
    assert message == {"jsonrpc": "2.0", "method": method, **params}


@given(st.integers(0, 3), st.booleans(), METHODS, PARAMS, IDS, JSON)
def test_a_request_crosses_the_chain_whole_and_its_answer_comes_back(
    proxies: int, down: bool, method: str, params: dict[str, Any], id: Any, result: Any
) -> None:
    c = chain(proxies)
    start, end = (0, c.agent) if down else (c.agent, 0)
    hop, message = travel(c, start, {"jsonrpc": "2.0", "id": id, "method": method, **params})
    assert hop == end
    assert {k: v for k, v in message.items() if k != "id"} == {"jsonrpc": "2.0", "method": method, **params}
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"], "result": result}
    while True:
        [(hop, answer)] = c.receive(hop, json.dumps(answer).encode())
        if hop == start:
            break
        answer["id"] = int(answer["id"].rpartition("-")[2])
    assert answer == {"jsonrpc": "2.0", "id": id, "result": result}
    assert len(c.routes) == 0


def test_initialize_reaches_proxies_as_proxy_initialize_and_the_agent_as_itself() -> None:
    c = chain(2)
    [(hop, first)] = c.receive(0, text(id="a", method="initialize", params={"protocolVersion": 1}))
    assert (hop, first["method"]) == (1, "proxy/initialize")
    [(hop, second)] = c.receive(1, successor("initialize", {"protocolVersion": 1}, id=5))
    assert (hop, second["method"]) == (2, "proxy/initialize")
    [(hop, third)] = c.receive(2, successor("initialize", {"protocolVersion": 1}, id=5))
    assert (hop, third["method"], third["params"]) == (3, "initialize", {"protocolVersion": 1})
    [(hop, answer)] = c.receive(3, text(id=third["id"], result={"protocolVersion": 1}))
    assert (hop, answer["id"]) == (2, 5)
    [(hop, answer)] = c.receive(2, text(id=second["id"], result={"protocolVersion": 1}))
    assert (hop, answer["id"]) == (1, 5)
    [(hop, answer)] = c.receive(1, text(id=first["id"], result={"protocolVersion": 1, "own": True}))
    assert (hop, answer) == (0, {"jsonrpc": "2.0", "id": "a", "result": {"protocolVersion": 1, "own": True}})


def test_a_proxy_that_answers_before_its_successor_is_not_believed() -> None:
    c = chain(1)
    [(_, asked)] = c.receive(0, text(id=1, method="initialize", params={"protocolVersion": 1}))
    [(hop, answer)] = c.receive(1, text(id=asked["id"], result={"protocolVersion": 1}))
    assert (hop, answer["error"]["code"]) == (0, -32603)
    assert "proxy 1 answered initialize before" in answer["error"]["message"]


def test_a_proxy_that_changes_the_version_is_refused_in_both_directions() -> None:
    c = chain(1)
    [(_, asked)] = c.receive(0, text(id=1, method="initialize", params={"protocolVersion": 1}))
    [(hop, answer)] = c.receive(1, successor("initialize", {"protocolVersion": 2}, id=1))
    assert (hop, answer["id"], answer["error"]["code"]) == (1, 1, -32602)
    [(_, onward)] = c.receive(1, successor("initialize", {"protocolVersion": 1}, id=2))
    c.receive(2, text(id=onward["id"], result={"protocolVersion": 1}))
    [(hop, answer)] = c.receive(1, text(id=asked["id"], result={"protocolVersion": 2}))
    assert (hop, answer["error"]["code"]) == (0, -32603)


def test_an_error_of_initialize_goes_back_as_it_is() -> None:
    c = chain(1)
    [(_, asked)] = c.receive(0, text(id=1, method="initialize", params={"protocolVersion": 9}))
    error = {"code": -32022, "message": "no", "data": {"supported": [1]}}
    [(hop, answer)] = c.receive(1, text(id=asked["id"], error=error))
    assert (hop, answer["error"]) == (0, error)


def test_cancelling_goes_hop_by_hop_under_each_hops_id() -> None:
    c = chain(1)
    [(_, onto_proxy)] = c.receive(0, text(id="p", method="session/prompt", params={}))
    [(_, onto_agent)] = c.receive(1, successor("session/prompt", {}, id="q"))
    cancel = {"method": "$/cancel_request", "params": {"requestId": "p", "why": 1}}
    [(hop, message)] = c.receive(0, text(**cancel))
    assert (hop, message["params"]) == (1, {"requestId": onto_proxy["id"], "why": 1})
    [(hop, message)] = c.receive(1, text(method="$/cancel_request", params={"requestId": "q"}))
    assert (hop, message["params"]) == (2, {"requestId": onto_agent["id"]})


@pytest.mark.parametrize("params", [{"requestId": "x"}, {"requestId": [1]}, {"requestId": True}, {}, None])
def test_cancelling_what_is_not_on_its_way_goes_nowhere(params: Any) -> None:
    assert chain().receive(0, text(method="$/cancel_request", params=params)) == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"x"}', -32600),
        (Oversize(9, 8), -32600),
        (text(id=1, method="proxy/initialize", params={}), -32601),
        (text(id=1, method="proxy/successor", params={"method": "x"}), -32601),
    ],
)
def test_what_is_no_message_for_a_chain_is_answered_where_it_came_from(line: bytes | Oversize, code: int) -> None:
    [(hop, answer)] = chain().receive(0, line)
    assert (hop, answer["error"]["code"]) == (0, code)


@pytest.mark.parametrize("params", [None, {}, {"method": 1}, {"method": "x", "params": 1}])
def test_a_wrapped_message_that_holds_none_is_refused(params: Any) -> None:
    [(hop, answer)] = chain().receive(1, text(id=3, method="proxy/successor", params=params))
    assert (hop, answer["id"], answer["error"]["code"]) == (1, 3, -32602)
    assert chain().receive(1, text(method="proxy/successor", params=params)) == []


def test_an_id_that_is_taken_and_too_many_requests_are_refused() -> None:
    c = chain()
    c.receive(0, text(id=1, method="a"))
    [(hop, answer)] = c.receive(0, text(id=1, method="b"))
    assert (hop, answer["error"]["code"]) == (0, -32600)
    for n in range(2, MOST_OPEN + 1):
        c.receive(0, text(id=n, method="a"))
    [(hop, answer)] = c.receive(0, text(id=0, method="a"))
    assert (hop, answer["error"]["code"]) == (0, -32603)


def test_an_answer_to_nothing_goes_nowhere() -> None:
    assert chain().receive(2, text(id=1, result={})) == []


def test_a_malformed_answer_is_an_error_to_whoever_asked() -> None:
    c = chain(0)
    for id in ("a", "b"):
        assert c.receive(0, text(id=id, method="session/new"))[0][0] == 1
    refused, (hop, answer) = c.receive(1, text(id=1, error="too late"))
    assert (refused[0], refused[1]["error"]["code"]) == (1, -32600)
    assert (hop, answer["id"]) == (0, "a")
    assert answer["error"]["message"] == "Malformed answer (error has no integer code): too late"
    [(hop, answer)] = c.receive(1, text(id="2", result={}))
    assert (hop, answer["id"], answer["error"]["code"]) == (0, "b", -32603)
    assert len(c.routes) == 0
    assert [hop for hop, _ in c.receive(1, text(id=1, error="too late"))] == [1]


def test_of_a_result_and_an_error_the_one_counts_that_is_not_null() -> None:
    c = chain(0)
    c.receive(0, text(id="a", method="initialize", params={"protocolVersion": 1}))
    [(hop, answer)] = c.receive(1, text(id=1, result=None, error={"code": -32022, "message": "no"}))
    assert (hop, answer["id"], answer["error"]["code"]) == (0, "a", -32022)


def test_the_client_hears_the_end_of_the_chain_for_each_open_request() -> None:
    c = chain()
    c.receive(0, text(id="a", method="x"))
    c.receive(3, text(id="b", method="y"))
    [(hop, answer)] = c.last_answers("the agent has gone")
    assert (hop, answer["id"], answer["error"]["message"]) == (0, "a", "the agent has gone")
