"""The pure peer: what a text means, and what goes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from acp.errors import ErrorCode, LocalProtocolError, RequestError
from acp.methods import Method
from acp.peer import Called, CancelAsked, Notified, Peer, Refused, Replied
from acp.v1 import schema
from acp.wire import Wire


class Ping(Wire):
    text: str
    count: int = 1


class Pong(Wire):
    text: str


PING: Method[Ping, Pong] = Method("test/ping", "both", Ping, Pong)
TELL: Method[Ping, None] = Method("test/tell", "both", Ping)


def peer(**options: Any) -> Peer:
    made = Peer(**options)
    made.open([PING, TELL], [PING, TELL])
    return made


def request(id: Any, method: str = "test/ping", params: Any = None) -> bytes:
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": {"text": "hi"} if params is None else params}
    return json.dumps(message).encode()


def sent(peer: Peer) -> list[dict[str, Any]]:
    return [json.loads(text) for text in peer.texts_to_send()]


def only_error(peer: Peer) -> tuple[Any, int]:
    [message] = sent(peer)
    assert "result" not in message
    return message["id"], message["error"]["code"]


HOSTILE = {
    b"": ErrorCode.PARSE_ERROR,
    b"hello": ErrorCode.PARSE_ERROR,
    b'{"jsonrpc":"2.0","id":1': ErrorCode.PARSE_ERROR,
    b'{"jsonrpc":"2.0","id":1,"method":"test/ping","params":{"text":NaN}}': ErrorCode.PARSE_ERROR,
    b'{"jsonrpc":"2.0","id":1,"method":"\xff"}': ErrorCode.PARSE_ERROR,
    b"[" * 100_000: ErrorCode.PARSE_ERROR,
    b"[]": ErrorCode.INVALID_REQUEST,
    b"[1,2]": ErrorCode.INVALID_REQUEST,
    b"7": ErrorCode.INVALID_REQUEST,
    b'"text"': ErrorCode.INVALID_REQUEST,
    b"null": ErrorCode.INVALID_REQUEST,
    b"{}": ErrorCode.INVALID_REQUEST,
    b'{"jsonrpc":"1.0","id":1,"method":"test/ping"}': ErrorCode.INVALID_REQUEST,
    b'{"jsonrpc":"2.0","id":{},"method":"test/ping"}': ErrorCode.INVALID_REQUEST,
    b'{"jsonrpc":"2.0","id":true,"method":"test/ping"}': ErrorCode.INVALID_REQUEST,
    b'{"jsonrpc":"2.0","id":1.5,"method":"test/ping"}': ErrorCode.INVALID_REQUEST,
    b'{"jsonrpc":"2.0","id":1,"method":7}': ErrorCode.INVALID_REQUEST,
    b'{"jsonrpc":"2.0","id":1,"method":"test/ping","params":"x"}': ErrorCode.INVALID_REQUEST,
    b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"m"}}': ErrorCode.INVALID_REQUEST,
    b'{"jsonrpc":"2.0","id":1,"error":{"code":"x","message":"m"}}': ErrorCode.INVALID_REQUEST,
}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: str(text[:40]))
def test_what_is_no_message_is_answered_with_a_null_id_and_the_peer_lives(text: bytes) -> None:
    ours = peer()
    assert [type(event) for event in ours.receive(text)] == [Refused]
    assert only_error(ours) == (None, HOSTILE[text])
    assert isinstance(ours.receive(request(1))[0], Called)


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_no_text_raises(text: bytes) -> None:
    peer().receive(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"jsonrpc": st.just("2.0")},
        optional={
            "id": json_values,
            "method": st.sampled_from(["test/ping", "test/tell", "no", "$/cancel_request"]) | json_values,
            "params": json_values,
            "result": json_values,
            "error": json_values,
        },
    )
)
def test_a_message_gets_at_most_one_answer_and_a_notification_none(message: dict[str, Any]) -> None:
    ours = peer()
    events = ours.receive(json.dumps(message).encode())
    answers = sent(ours)
    assert len(answers) <= 1
    if isinstance(message.get("method"), str) and "id" not in message and isinstance(message.get("params", {}), dict):
        assert answers == []
    if any(isinstance(event, Called) for event in events):
        assert answers == []


def test_a_request_keeps_the_type_of_its_id() -> None:
    ours = peer()
    for id in (1, "1", 0, "", -5):
        [event] = ours.receive(request(id))
        assert isinstance(event, Called)
        ours.reply(event.id, Pong(text="yes"))
        assert sent(ours) == [{"jsonrpc": "2.0", "id": id, "result": {"text": "yes"}}]


def test_unknown_methods_and_wrong_params_are_refused_with_their_codes() -> None:
    ours = peer()
    ours.receive(request(1, "no/such"))
    assert only_error(ours) == (1, ErrorCode.METHOD_NOT_FOUND)
    ours.receive(request(2, params={"text": 7}))
    [message] = sent(ours)
    assert message["error"]["code"] == ErrorCode.INVALID_PARAMS
    assert message["error"]["data"][0]["pointer"] == "/text"
    ours.receive(request(3, params=["hi"]))
    assert only_error(ours) == (3, ErrorCode.INVALID_PARAMS)


def test_a_notification_is_never_answered_not_even_with_an_error() -> None:
    ours = peer()
    for method, params in (
        ("no/such", {}),
        ("test/tell", {"text": 7}),
        ("$/unknown", {}),
        ("test/ping", {"text": "a"}),
    ):
        text = json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()
        assert [type(event) for event in ours.receive(text)] == [Refused]
    assert sent(ours) == []


def test_an_id_that_is_still_running_is_refused_and_the_first_request_goes_on() -> None:
    ours = peer()
    ours.receive(request(1))
    ours.receive(request(1))
    assert only_error(ours) == (None, ErrorCode.INVALID_REQUEST)
    ours.reply(1, Pong(text="first"))
    assert sent(ours)[0]["result"] == {"text": "first"}


def test_cancelling_names_a_running_request_only() -> None:
    ours = peer()
    ours.receive(request("a"))

    def cancel(id: Any) -> list[Any]:
        return ours.receive(
            json.dumps({"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": id}}).encode()
        )

    assert cancel("a") == [CancelAsked("a")]
    assert cancel("b") == []
    assert cancel({"odd": 1}) == []
    ours.fail("a", RequestError.cancelled())
    assert only_error(ours) == ("a", ErrorCode.REQUEST_CANCELLED)
    assert cancel("a") == []


@pytest.mark.parametrize("params", [{}, {"requestId": True}, {"requestId": 1.0}, {"requestId": "1"}, [1], None])
def test_a_cancellation_that_names_no_request_exactly_cancels_none(params: Any) -> None:
    ours = peer()
    ours.receive(request(1))
    ours.receive(request(None))
    assert ours.receive(json.dumps({"jsonrpc": "2.0", "method": "$/cancel_request", "params": params}).encode()) == []


def test_a_result_that_is_no_json_says_nothing_and_the_request_still_waits() -> None:
    ours = peer()
    ours.receive(request(1))
    with pytest.raises(LocalProtocolError, match="cannot be sent as JSON"):
        ours.reply(1, Pong.decode({"text": "x", "extra": float("nan")}))
    assert sent(ours) == []
    ours.reply(1, Pong(text="now"))
    assert sent(ours)[0]["result"] == {"text": "now"}


def test_an_error_that_the_peer_could_not_place_is_quoted() -> None:
    ours = peer()
    [event] = ours.receive(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse\\nerror"}}')
    assert isinstance(event, Refused)
    assert event.error.message.endswith(": Parse error")


def test_a_reply_to_what_was_never_asked_is_an_event() -> None:
    ours = peer()
    [event] = ours.receive(b'{"jsonrpc":"2.0","id":9,"result":{}}')
    assert isinstance(event, Refused)
    assert sent(ours) == []


MALFORMED: dict[str, tuple[Any, str]] = {
    "both": ({"id": 1, "result": {"text": "yo"}, "error": {"code": 1, "message": "no"}}, "both a result and an error"),
    "both null": ({"id": 1, "result": None, "error": None}, "both a result and an error"),
    "neither": ({"id": 1}, "neither a request nor an answer"),
    "error null": ({"id": 1, "error": None}, "error has no integer code"),
    "error a string": ({"id": 1, "error": "too late"}, "error has no integer code): too late"),
    "no code": ({"id": 1, "error": {"message": "too late"}}, "error has no integer code): too late"),
    "fractional code": ({"id": 1, "error": {"code": 1.0, "message": "too late"}}, "integer code): too late"),
    "no message": ({"id": 1, "error": {"code": 1}}, "error has no message"),
    "another jsonrpc": ({"id": 1, "jsonrpc": "1.0", "result": {"text": "yo"}}, "jsonrpc is not '2.0'"),
    "no jsonrpc": ({"id": 1, "jsonrpc": None, "result": {"text": "yo"}}, "jsonrpc is not '2.0'"),
    "method null": ({"id": 1, "method": None, "result": {"text": "yo"}}, "method is not a string"),
    "fractional id": ({"id": 1.0, "result": {"text": "yo"}}, "id is neither a string nor an integer"),
}


@pytest.mark.parametrize(("answer", "words"), MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("batch", [False, True])
def test_a_malformed_answer_fails_the_call_that_it_names(answer: Any, words: str, batch: bool) -> None:
    ours = peer(batch=batch)
    assert ours.call(PING, Ping(text="hi")) == 1
    sent(ours)
    text = json.dumps([{"jsonrpc": "2.0", **answer}] if batch else {"jsonrpc": "2.0", **answer}).encode()
    refused, replied = ours.receive(text)
    assert isinstance(refused, Refused)
    assert isinstance(replied, Replied)
    assert replied.id == 1
    assert isinstance(replied.outcome, RequestError)
    assert replied.outcome.code == ErrorCode.INTERNAL_ERROR
    assert words in replied.outcome.message
    assert only_error(ours) == (None, ErrorCode.INVALID_REQUEST)
    assert ours.asked == 0
    [again] = ours.receive(text)  # nothing waits for it any more: as if nothing ever had
    assert isinstance(again, Refused)
    assert only_error(ours) == (None, ErrorCode.INVALID_REQUEST)


def test_an_answer_under_the_number_as_text_fails_the_call() -> None:
    ours = peer()
    ours.call(PING, Ping(text="hi"))
    sent(ours)
    [event] = ours.receive(b'{"jsonrpc":"2.0","id":"1","result":{"text":"yo"}}')
    assert isinstance(event, Replied)
    assert isinstance(event.outcome, RequestError)
    assert "its id is a string, and was a number" in event.outcome.message
    assert (ours.asked, sent(ours)) == (0, [])


@pytest.mark.parametrize("id", [True, None, "", "2", "01", "01x", "\u0661", "1" * 5000, 1.5, 1e300, {}, [1]])
def test_a_malformed_answer_that_names_no_call_fails_none(id: Any) -> None:
    ours = peer()
    ours.call(PING, Ping(text="hi"))
    for body in ({"result": {"text": "yo"}}, {"error": "no"}):
        events = ours.receive(json.dumps({"jsonrpc": "2.0", "id": id, **body}).encode())
        assert [type(event) for event in events] == [Refused]
    assert ours.asked == 1


def test_a_malformed_request_under_the_id_of_a_call_fails_no_call() -> None:
    ours = peer()
    ours.call(PING, Ping(text="hi"))
    for body in ({"method": 7}, {"method": "test/ping", "params": "x", "result": {}}):
        [event] = ours.receive(json.dumps({"jsonrpc": "2.0", "id": 1, **body}).encode())
        assert isinstance(event, Refused)
    assert ours.asked == 1


def test_of_a_result_and_an_error_the_one_counts_that_is_not_null() -> None:
    ours = peer()
    first, second = ours.call(PING, Ping(text="hi")), ours.call(PING, Ping(text="ho"))
    sent(ours)
    [good] = ours.receive(b'{"jsonrpc":"2.0","id":1,"result":{"text":"yo"},"error":null}')
    assert good == Replied(first, Pong(text="yo"))
    [bad] = ours.receive(b'{"jsonrpc":"2.0","id":2,"result":null,"error":{"code":-32000,"message":"no"}}')
    assert isinstance(bad, Replied)
    assert (bad.id, bad.outcome.code, bad.outcome.message) == (second, -32000, "no")
    assert sent(ours) == []


def test_an_answer_that_is_null_counts_as_an_empty_object() -> None:
    ours = Peer()
    ours.open((), [schema.FS_WRITE_TEXT_FILE])
    params = schema.WriteTextFileRequest(session_id="s", path="/a", content="")
    id = ours.call(schema.FS_WRITE_TEXT_FILE, params)
    [event] = ours.receive(json.dumps({"jsonrpc": "2.0", "id": id, "result": None}).encode())
    assert isinstance(event, Replied)
    assert isinstance(event.outcome, schema.WriteTextFileResponse)


def test_an_answer_that_does_not_fit_is_an_error_to_the_caller() -> None:
    ours = peer()
    id = ours.call(PING, Ping(text="x"))
    [event] = ours.receive(json.dumps({"jsonrpc": "2.0", "id": id, "result": {"text": 5}}).encode())
    assert isinstance(event, Replied)
    assert isinstance(event.outcome, RequestError)


def test_a_method_that_is_not_open_is_not_sent() -> None:
    ours = Peer()
    with pytest.raises(LocalProtocolError, match="test/ping is not open"):
        ours.call(PING, Ping(text="x"))
    assert ours.texts_to_send() == []


def test_an_error_message_is_one_line() -> None:
    ours = peer()
    ours.receive(request(1))
    ours.fail(1, RequestError(1, "two\nlines\r\nof it"))
    assert sent(ours)[0]["error"]["message"] == "two lines of it"


def test_a_batch_is_taken_apart_when_asked_for() -> None:
    ours = peer(batch=True)
    batch = b"[" + request(1) + b"," + request(2) + b",7]"
    assert [type(event) for event in ours.receive(batch)] == [Called, Called, Refused]
    ours.receive(b"[]")
    assert [message["error"]["code"] for message in sent(ours)] == [-32600, -32600]


class Conversation(RuleBasedStateMachine):
    """Two peers that talk through lists of texts: in any order, each call is answered once, with its own answer."""

    calls = Bundle("calls")
    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.here, self.there = peer(), peer()
        self.asked: dict[Any, str] = {}
        self.answered: dict[Any, Any] = {}

    @rule(target=running, text=st.text(max_size=3))
    def call(self, text: str) -> Any:
        id = self.here.call(PING, Ping(text=text))
        assert id not in self.asked
        self.asked[id] = text
        [event] = [e for sent in self.here.texts_to_send() for e in self.there.receive(sent)]
        assert isinstance(event, Called)
        return event

    @rule(event=consumes(running), well=st.booleans())
    def answer(self, event: Called, well: bool) -> None:
        if well:
            self.there.reply(event.id, Pong(text=event.params.text))
        else:
            self.there.fail(event.id, RequestError(7, event.params.text))
        self.deliver()

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Of a call that is answered already, neither side says or hears anything."""
        if self.asked:
            id = data.draw(st.sampled_from(sorted(self.asked)))
            self.here.cancel(id)
            events = [event for text in self.here.texts_to_send() for event in self.there.receive(text)]
            assert events == ([] if id in self.answered else [CancelAsked(id)])

    @rule(id=st.integers(-3, 3) | st.text("0123", max_size=2))
    def forge(self, id: Any) -> None:
        """An answer to what was never asked, and a cancellation of what never ran, change nothing."""
        if id in self.asked and id not in self.answered:
            id = f"0{id}"
        if id in map(str, self.asked.keys() - self.answered.keys()):
            return  # that is meant for it, and fails it
        answer = {"jsonrpc": "2.0", "id": id, "result": {"text": "forged"}}
        assert [type(event) for event in self.here.receive(json.dumps(answer).encode())] == [Refused]
        cancel = {"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": id}}
        assert self.there.receive(json.dumps(cancel).encode()) == []
        assert not self.here.pending
        assert not self.there.pending

    @rule(junk=st.binary(max_size=20))
    def junk(self, junk: bytes) -> None:
        for event in self.here.receive(junk):
            assert not isinstance(event, Replied)
        self.here.texts_to_send()

    @rule(text=st.text(max_size=3))
    def tell(self, text: str) -> None:
        self.here.notify(TELL, Ping(text=text))
        [event] = [e for sent in self.here.texts_to_send() for e in self.there.receive(sent)]
        assert isinstance(event, Notified)
        assert event.params.text == text

    def deliver(self) -> None:
        for text in self.there.texts_to_send():
            for event in self.here.receive(text):
                assert isinstance(event, Replied)
                assert event.id not in self.answered
                self.answered[event.id] = event.outcome

    @invariant()
    def answers_belong_to_their_questions(self) -> None:
        for id, outcome in self.answered.items():
            said = outcome.message if isinstance(outcome, RequestError) else outcome.text
            assert said == (" ".join(self.asked[id].split()) if isinstance(outcome, RequestError) else self.asked[id])

    @invariant()
    def nothing_is_forgotten(self) -> None:
        assert self.here.asked == len(self.asked) - len(self.answered)
        assert self.there.running == self.here.asked


Conversation.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestConversation = Conversation.TestCase
