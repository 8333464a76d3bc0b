"""Wire models: omitted, null and a value; what is unknown survives; leniencies; where a value does not fit."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from acp.v1 import schema as v1
from acp.v2 import schema as v2
from acp.wire import Wire, pointers

CHUNK = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "hi"}}


def refusal(model: type[Wire], value: Any) -> dict[str, str]:
    """Pointer → message of a value that does not fit."""
    with pytest.raises(ValidationError) as caught:
        model.decode(value)
    return {place["pointer"]: place["message"] for place in pointers(caught.value)}


def test_omitted_null_and_a_value_are_three_things() -> None:
    omitted = v2.ToolCallUpdate.decode({"toolCallId": "1"})
    null = v2.ToolCallUpdate.decode({"toolCallId": "1", "title": None})
    value = v2.ToolCallUpdate.decode({"toolCallId": "1", "title": "t"})
    assert [model.given("title") for model in (omitted, null, value)] == [False, True, True]
    assert [model.title for model in (omitted, null, value)] == [None, None, "t"]
    assert [model.encode() for model in (omitted, null, value)] == [
        {"toolCallId": "1"},
        {"toolCallId": "1", "title": None},
        {"toolCallId": "1", "title": "t"},
    ]


def test_a_constructed_model_sends_its_tags_first_and_only_what_was_given() -> None:
    update = v1.AgentMessageChunkSessionUpdate(content=v1.TextContentBlock(text="hi"))
    encoded = v1.SessionNotification(session_id="s", update=update).encode()
    assert encoded == {"sessionId": "s", "update": CHUNK}
    assert list(encoded["update"]) == ["sessionUpdate", "content"]


def test_a_default_is_read_but_not_sent() -> None:
    capabilities = v1.InitializeResponse(protocol_version=1)
    assert capabilities.agent_capabilities.prompt_capabilities.image is False
    assert capabilities.auth_methods == []
    assert capabilities.encode() == {"protocolVersion": 1}


def test_defaults_that_are_lists_are_not_shared() -> None:
    first, second = v1.NewSessionResponse.decode({"sessionId": "1"}), v1.InitializeResponse(protocol_version=1)
    second.auth_methods.append(v1.AuthMethodAgent(id="x", name="x"))
    assert v1.InitializeResponse(protocol_version=1).auth_methods == []
    assert first.session_id == "1"


def test_unknown_fields_survive_at_every_level() -> None:
    value = {
        "sessionId": "s",
        "update": {**CHUNK, "x": {"y": [1, None, 1.5]}, "content": {"type": "text", "text": "", "new": True}},
        "future": "field",
        "_meta": {"traceparent": "00", "deep": [{}]},
    }
    assert v1.SessionNotification.decode(copy.deepcopy(value)).encode() == value


@pytest.mark.parametrize("name", ["meta", "session_id", "model_dump", "encode", "__class__", "self", "text_"])
def test_an_unknown_field_may_be_spelled_like_anything_of_ours(name: str) -> None:
    value = {"type": "text", "text": "t", name: {"a": 1}}
    block = v1.TextContentBlock.decode(value)
    assert block.text == "t"
    assert block.encode() == value


def test_meta_is_apart_from_a_field_called_meta() -> None:
    block = v1.TextContent.decode({"text": "t", "_meta": {"a": 1}, "meta": 2})
    assert block.meta == {"a": 1}
    assert block.encode() == {"text": "t", "_meta": {"a": 1}, "meta": 2}


@pytest.mark.parametrize("schema", [v1, v2])
def test_an_unknown_variant_is_kept_whole(schema: Any) -> None:
    value = {"type": "hologram", "depth": 3, "_meta": None}
    prompt = schema.PromptRequest.decode({"sessionId": "s", "prompt": [value]})
    assert isinstance(prompt.prompt[0], schema.UnknownContentBlock)
    assert prompt.prompt[0].raw == value
    assert prompt.encode()["prompt"] == [value]


def test_a_malformed_value_of_a_lenient_field_counts_as_omitted() -> None:
    call = v1.ToolCall.decode({"toolCallId": "1", "title": "t", "kind": "juggle", "status": None, "locations": 7})
    assert (call.kind, call.status, call.locations) == (None, None, [])
    assert call.encode() == {"toolCallId": "1", "title": "t"}


def test_an_invalid_item_of_a_lenient_list_is_left_out() -> None:
    places = [{"path": "/a"}, {"line": 3}, "no", {"path": "/b", "line": -1}]
    call = v1.ToolCallUpdate.decode({"toolCallId": "1", "locations": places})
    assert call.encode()["locations"] == [{"path": "/a"}, {"path": "/b"}]


def test_null_counts_as_empty_where_the_schema_says_so_and_nowhere_else() -> None:
    stdio = v1.McpServerStdio.decode({"name": "n", "command": "c", "args": None, "env": []})
    assert stdio.args == []
    assert "/prompt" in refusal(v1.PromptRequest, {"sessionId": "s", "prompt": None})


def test_a_required_lenient_list_may_be_malformed_but_not_missing() -> None:
    assert v1.Plan.decode({"entries": "none"}).entries == []
    assert "/entries" in refusal(v1.Plan, {})


def test_an_mcp_server_without_a_type_is_a_stdio_server() -> None:
    value = {"cwd": "/", "mcpServers": [{"name": "n", "command": "c", "args": [], "env": []}, {"type": "ws", "u": 1}]}
    request = v1.NewSessionRequest.decode(value)
    assert [type(server) for server in request.mcp_servers] == [v1.McpServerStdio, v1.UnknownMcpServer]
    assert request.encode() == value


def test_an_auth_method_without_a_type_is_the_agents() -> None:
    value = {
        "protocolVersion": 1,
        "authMethods": [{"id": "a", "name": "A"}, {"type": "terminal", "id": "t", "name": "T"}],
    }
    methods = v1.InitializeResponse.decode(value).auth_methods
    assert [type(method) for method in methods] == [v1.AuthMethodAgent, v1.TerminalAuthMethod]


@pytest.mark.parametrize("request_id", [None, 0, -7, 2**63 - 1, "", "a"])
def test_a_request_id_keeps_its_type(request_id: Any) -> None:
    decoded = v1.CancelRequestNotification.decode({"requestId": request_id})
    assert decoded.request_id == request_id
    assert type(decoded.request_id) is type(request_id)


@pytest.mark.parametrize("request_id", [True, 1.5, 2**63, []])
def test_what_is_no_request_id_is_refused(request_id: Any) -> None:
    assert "/requestId" in refusal(v1.CancelRequestNotification, {"requestId": request_id})


def test_an_elicitation_is_decoded_by_mode_and_by_scope() -> None:
    form = {"mode": "form", "message": "m", "requestedSchema": {}}
    session = v1.CreateElicitationRequest.decode({**form, "sessionId": "s"})
    request = v1.CreateElicitationRequest.decode({**form, "requestId": 3})
    assert isinstance(session, v1.SessionFormCreateElicitationRequest)
    assert isinstance(request, v1.RequestFormCreateElicitationRequest)
    assert isinstance(request, v1.CreateElicitationRequest)
    assert (session.message, session.session_id, request.request_id) == ("m", "s", 3)


def test_a_v2_elicitation_has_one_scope_only() -> None:
    both = {"mode": "form", "message": "m", "requestedSchema": {"properties": {}}, "sessionId": "s", "requestId": 3}
    assert refusal(v2.CreateElicitationRequest, both) != {}


def test_a_v2_state_update_is_decoded_through_all_its_tags() -> None:
    idle = {"sessionId": "s", "update": {"sessionUpdate": "state_update", "state": "idle", "stopReason": "end_turn"}}
    update = v2.UpdateSessionNotification.decode(idle).update
    assert isinstance(update, v2.EndTurnIdleStateUpdateSessionUpdate)
    assert isinstance(update, v2.StateUpdateSessionUpdate)
    assert isinstance(update, v2.EndTurnIdleStateUpdate)
    made = v2.EndTurnIdleStateUpdateSessionUpdate()
    assert v2.UpdateSessionNotification(session_id="s", update=made).encode() == idle


def test_a_refusal_names_the_place_and_not_the_value() -> None:
    secret = "hunter2"
    places = refusal(
        v1.PromptRequest, {"sessionId": 7, "prompt": [{"type": "text"}, {"type": "text", "text": [secret]}]}
    )
    assert set(places) == {"/sessionId", "/prompt/0/text", "/prompt/1/text"}
    assert secret not in repr(places)


def test_a_refusal_speaks_of_the_likely_arm_only() -> None:
    servers = [
        {"name": "n", "command": 5, "args": [], "env": []},
        {"type": "http", "name": "n", "url": 1, "headers": []},
    ]
    places = refusal(v1.NewSessionRequest, {"cwd": "/", "mcpServers": servers})
    assert set(places) == {"/mcpServers/0/command", "/mcpServers/1/url"}


def test_a_pointer_escapes_slashes_and_tildes() -> None:
    places = refusal(
        v1.SetProviderRequest, {"providerId": "p", "apiType": "x", "baseUrl": "u", "headers": {"a/b~c": 1}}
    )
    assert set(places) == {"/headers/a~1b~0c"}


@pytest.mark.parametrize("value", [None, 7, "text", [], [{}]])
def test_params_that_are_no_object_are_refused_at_the_root(value: Any) -> None:
    assert set(refusal(v1.PromptRequest, value)) == {""}


@pytest.mark.parametrize(
    ("value", "fits"), [(1, True), (1.0, True), (1.5, False), (True, False), ("1", False), (-1, False)]
)
def test_a_number_is_not_made_of_something_else(value: Any, fits: bool) -> None:
    params = {"used": value, "size": 10}
    if fits:
        assert v1.UsageUpdate.decode(params).used == 1
    else:
        assert "/used" in refusal(v1.UsageUpdate, params)


def test_a_huge_list_of_wrong_items_is_refused_without_harm() -> None:
    assert refusal(v1.PromptRequest, {"sessionId": "s", "prompt": [0] * 10_000}) != {}


def test_models_can_be_copied_and_pickled() -> None:
    update = v1.SessionNotification.decode({"sessionId": "s", "update": {**CHUNK, "x": 1}})
    assert copy.deepcopy(update).encode() == pickle.loads(pickle.dumps(update)).encode() == update.encode()
