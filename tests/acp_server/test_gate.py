"""Who is let in: origins, names, tokens, and requests that could be read in two ways."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp.transports.remote import Request, is_loopback
from acp_server.network.gate import Gate, Refusal, Visitor, read_tokens

ALICE, BOB = "alice-token-0123456789", "bob-token-0123456789"


def verdict(gate: Gate, *headers: tuple[str, str], path: str = "/acp", host: str | None = "127.0.0.1:8765") -> object:
    """The principal that is let in, or the status that is not."""
    said = [*([("host", host)] if host is not None else []), *headers]
    match gate.judge(Request(path, said), "127.0.0.1"):
        case Visitor(principal):
            return principal
        case Refusal(status):
            return status


def test_a_native_client_of_this_machine_comes_in() -> None:
    assert verdict(Gate()) == ""
    assert verdict(Gate(), path="/acp?x=1") == ""
    assert verdict(Gate(), path="/") == 404
    assert verdict(Gate(), path="/acp/..") == 404


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:8765", "", "https://ok.example.evil"]
)
def test_a_web_page_does_not_unless_its_origin_is_listed(origin: str) -> None:
    gate = Gate(origins=["https://OK.example/"])
    assert verdict(gate, ("origin", origin)) == 403
    assert verdict(gate, ("origin", "https://ok.example")) == ""


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.:1", "127.0.0.1", "[::1]:8765", "192.168.1.5:80", "agents.example"]
)
def test_the_servers_own_names_are_known(host: str) -> None:
    assert verdict(Gate(names=["Agents.example"]), host=host) == ""


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "127.1", "a b", "[::1", "x@127.0.0.1"],
)
def test_a_name_that_was_rebound_is_not(host: str) -> None:
    assert verdict(Gate(), host=host) == 403


def test_no_host_and_two_of_a_header_are_refused() -> None:
    gate = Gate({"": ALICE}, origins=["https://ok.example"])
    assert verdict(gate, host=None) == 400
    assert verdict(gate, ("host", "evil.example")) == 400
    assert verdict(gate, ("origin", "https://ok.example"), ("origin", "https://evil.example")) == 400
    assert verdict(gate, ("authorization", f"Bearer {ALICE}"), ("authorization", f"Bearer {ALICE}")) == 400


def offer(token: str) -> str:
    return "acp-bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def test_a_token_says_who_it_is_by_a_header_or_a_sub_protocol() -> None:
    gate = Gate({"alice": ALICE, "bob": BOB})
    assert verdict(gate, ("authorization", f"Bearer {ALICE}")) == "alice"
    assert verdict(gate, ("authorization", f"bearer  {BOB}")) == "bob"
    assert verdict(gate, ("sec-websocket-protocol", f"acp, {offer(BOB)}")) == "bob"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", f"Basic {ALICE}")],
        [("authorization", ALICE)],
        [("authorization", f"Bearer {ALICE[:-1]}")],
        [("authorization", f"Bearer {ALICE}x")],
        [("authorization", "Bearer ")],
        [("sec-websocket-protocol", "acp, acp-bearer.%%%")],
        [("sec-websocket-protocol", "acp, acp-bearer.")],
        [("sec-websocket-protocol", f"{offer(ALICE)}, {offer(BOB)}")],
        [("authorization", f"Bearer {ALICE}"), ("sec-websocket-protocol", offer(BOB))],
    ],
    ids=["none", "basic", "bare", "short", "long", "empty", "nonsense", "empty offer", "two offers", "both"],
)
def test_a_token_that_is_none_is_refused(headers: list[tuple[str, str]]) -> None:
    assert verdict(Gate({"alice": ALICE, "bob": BOB}), *headers) == 401


def test_a_token_in_the_url_is_no_token() -> None:
    assert verdict(Gate({"alice": ALICE}), path=f"/acp?token={ALICE}&access_token={ALICE}") == 401


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_whatever_is_sent_gets_a_verdict(host: str, token: str, offered: str) -> None:
    headers = [("authorization", f"Bearer {token}"), ("sec-websocket-protocol", f"acp-bearer.{offered}")]
    for header in headers:
        assert verdict(Gate({"alice": ALICE}), header, host=host) in (401, 403)


# The file of tokens ----------------------------------------------------------------------------------------------


def written(folder: Path, text: str) -> str:
    path = folder / "tokens"
    path.write_text(text)
    return str(path)


def test_a_file_of_tokens_is_read(tmp_path: Path) -> None:
    assert read_tokens(written(tmp_path, f"{ALICE}\n")) == {"": ALICE}
    text = f"# who may come in\n\nalice {ALICE}\n  bob\t{BOB}\n"
    assert read_tokens(written(tmp_path, text)) == {"alice": ALICE, "bob": BOB}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no token"),
        ("short", "at least 16"),
        (f"alice {ALICE} more", "line 1 is neither"),
        (f"{ALICE}\n{BOB}", "line 2: a second token needs a name"),
        (f"a {ALICE}\na {BOB}", "a is there twice"),
        (f"a {ALICE}\nb {ALICE}", "another's"),
        (f"a/b {ALICE}", "letters"),
        (f"alice {ALICE}é", "ASCII"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_and_no_token_shown(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        read_tokens(written(tmp_path, text))
    assert ALICE not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_which_hosts_are_this_machine_alone(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours
