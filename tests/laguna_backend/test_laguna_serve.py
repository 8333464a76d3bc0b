"""`laguna serve` as programs use it: a real process on laguna-nano, the openai package, plain HTTP, our own agent."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from acp_server.openai.discovery import OURS
from laguna_backend.__main__ import main

TOKEN = "a-token-that-is-long-enough"
SAMPLE = Path(__file__).resolve().parents[2] / "demo" / "sample"
PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ: Any = {"type": "function", "function": {"name": "read", "description": "Read a file.", "parameters": PATH}}
OTHER: Any = {"type": "function", "function": {"name": "show_weather", "description": "Now.", "parameters": PATH}}
SHOW: Any = {"role": "user", "content": "Show me shop/prices.py"}


@contextmanager
def serving(*options: str) -> Generator[str]:
    """The URL of a server. It has to end as it should."""
    command = [sys.executable, "-m", "laguna_backend", "serve", "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline().decode()
            assert "laguna-nano at http://127.0.0.1:" in line, line
            yield line.split()[-1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tokens = tmp_path_factory.mktemp("serve") / "tokens"
    tokens.write_text(f"ann {TOKEN}\n")
    with serving("--token-file", str(tokens), "--at-once", "1", "--waiting", "1") as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key=TOKEN, max_retries=0, timeout=30) as client:
        yield client


def ask(client: OpenAI, *messages: Any, **more: Any) -> ChatCompletion:
    return client.chat.completions.create(model="laguna-nano", messages=list(messages) or [SHOW], **more)


def post(url: str, path: str, body: bytes | str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """What a server answers that is asked without a library."""
    with closing(http.client.HTTPConnection(url.split("/")[2], timeout=30)) as connection:
        connection.request("POST", path, body, {"Authorization": f"Bearer {TOKEN}", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), {name.lower(): value for name, value in answer.getheaders()}


# What is answered ----------------------------------------------------------------------------------------


def test_the_model_is_listed_by_its_name_and_its_context(client: OpenAI) -> None:
    listed = client.models.list().data
    assert [model.id for model in listed] == ["laguna-nano"]
    told = client.models.retrieve("laguna-nano").model_dump()
    assert (told["max_model_len"], told["owned_by"]) == (8192, OURS)  # or our own agent would break tags in its texts
    assert 1 < told["bytes_per_token"] < 4
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        client.models.retrieve("gpt")


def test_a_call_and_its_result_are_a_conversation(client: OpenAI) -> None:
    first = ask(client, tools=[READ], temperature=0)
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.model_dump()["reasoning_content"]
    assert choice.message.tool_calls is not None
    call: Any = choice.message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("read", {"path": "shop/prices.py"})
    assert first.usage is not None
    assert min(first.usage.prompt_tokens, first.usage.completion_tokens) > 10
    said: Any = choice.message.model_dump(exclude_none=True)
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "1\tprice = 3\n"}
    second = ask(client, SHOW, said, result, tools=[READ], temperature=0)
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= first.usage.prompt_tokens


def test_an_answer_that_comes_back_without_its_thoughts_is_known_again(client: OpenAI) -> None:
    """Only where it was said: the same words in another conversation were thought of otherwise."""
    first = ask(client, tools=[READ], temperature=0)
    said: Any = first.choices[0].message.model_dump(exclude_none=True, exclude={"reasoning_content"})
    assert said["content"] is None if "content" in said else True
    result: Any = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "1\tprice = 3\n"}

    def cached(*messages: Any) -> int:
        usage = ask(client, *messages, tools=[READ], temperature=0).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        return usage.prompt_tokens_details.cached_tokens or 0

    assert first.usage is not None
    assert cached(SHOW, said, result) >= first.usage.total_tokens - 1  # the last token of an answer was never run
    assert cached({"role": "user", "content": "Show me shop/prices.pyx"}, said, result) < first.usage.prompt_tokens


def test_a_stream_joins_to_the_same_answer(client: OpenAI) -> None:
    whole = ask(client, tools=[READ], temperature=0, logprobs=True, top_logprobs=2).choices[0]
    thought, name, arguments, reasons, likely = "", "", "", list[str](), list[float]()
    usage: Any = None
    for chunk in client.chat.completions.create(
        model="laguna-nano",
        messages=[SHOW],
        tools=[READ],
        temperature=0,
        logprobs=True,
        top_logprobs=2,
        stream=True,
        stream_options={"include_usage": True},
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            thought += choice.delta.model_dump().get("reasoning_content") or ""
            for call in choice.delta.tool_calls or ():
                assert call.function is not None
                name += call.function.name or ""
                arguments += call.function.arguments or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
            likely += [token.logprob for token in (choice.logprobs and choice.logprobs.content) or ()]
    assert thought == whole.message.model_dump()["reasoning_content"]
    assert whole.message.tool_calls is not None
    expected: Any = whole.message.tool_calls[0]
    assert (name, arguments) == (expected.function.name, expected.function.arguments)
    assert reasons == ["tool_calls"]
    assert whole.logprobs is not None
    assert whole.logprobs.content is not None
    assert likely == pytest.approx([token.logprob for token in whole.logprobs.content], abs=1e-3)  # pyright: ignore[reportUnknownMemberType]
    assert all(len(token.top_logprobs) == 2 for token in whole.logprobs.content)
    assert usage.completion_tokens >= len(likely)


def test_arguments_come_as_they_are_written_and_a_call_that_is_cut_off_has_no_whole_ones(client: OpenAI) -> None:
    def told(**more: Any) -> list[str]:
        pieces = list[str]()
        for chunk in client.chat.completions.create(
            model="laguna-nano", messages=[SHOW], tools=[READ], temperature=0, stream=True, **more
        ):
            for choice in chunk.choices:
                for call in choice.delta.tool_calls or ():
                    pieces.append((call.function and call.function.arguments) or "")
        return pieces

    def whole(**more: Any) -> str:
        calls: Any = ask(client, tools=[READ], temperature=0, **more).choices[0].message.tool_calls
        return calls[0].function.arguments

    pieces = told()
    assert "".join(pieces) == whole() == '{"path": "shop/prices.py"}'
    assert len([piece for piece in pieces if piece]) > 3
    usage = ask(client, tools=[READ], temperature=0).usage
    assert usage is not None
    cut = usage.completion_tokens - 4  # within the path
    pieces = told(max_tokens=cut)
    assert "".join(pieces) == whole(max_tokens=cut)
    assert "".join(pieces).startswith('{"path": "shop')
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads("".join(pieces))


def test_a_call_is_made_or_not_as_it_is_chosen(client: OpenAI) -> None:
    def called(**more: Any) -> list[str]:
        calls: Any = ask(client, tools=[READ, OTHER], temperature=0, **more).choices[0].message.tool_calls
        return [call.function.name for call in calls or ()]

    assert called() == ["read"]
    assert called(tool_choice={"type": "function", "function": {"name": "show_weather"}})[0] == "show_weather"
    assert called(tool_choice="required", reasoning_effort="none", parallel_tool_calls=False) == ["read"]
    assert "<tool_call>" not in str(ask(client, tools=[READ], tool_choice="none", max_tokens=50))


@pytest.mark.parametrize("more", [{}, {"tools": [READ, OTHER], "tool_choice": "none"}, {"tools": []}])
@pytest.mark.parametrize("temperature", [0, 1])
def test_no_call_is_made_of_tools_that_are_not_offered(client: OpenAI, more: Any, temperature: float) -> None:
    run: Any = {"role": "user", "content": "Run `make test`."}
    asked: Any = {**more, "temperature": temperature, "seed": 3, "max_tokens": 80}
    choice = ask(client, run, **asked).choices[0]
    assert choice.finish_reason in ("stop", "length")
    assert choice.message.tool_calls is None
    assert choice.message.content or choice.finish_reason == "length"
    chunks: Any = ask(client, run, stream=True, **asked)
    deltas = [chunk.choices[0] for chunk in chunks]
    assert not any(delta.delta.tool_calls for delta in deltas)
    assert deltas[-1].finish_reason == choice.finish_reason


def test_thoughts_can_be_left_out_or_cut(client: OpenAI) -> None:
    def thought(**more: Any) -> int:
        usage = ask(client, tools=[READ], temperature=0, **more).usage
        assert usage is not None
        assert usage.completion_tokens_details is not None
        return usage.completion_tokens_details.reasoning_tokens or 0

    assert thought(reasoning_effort="none") == 0
    assert thought(extra_body={"chat_template_kwargs": {"enable_thinking": False}}) == 0
    assert 0 < thought(extra_body={"thinking_budget": 3}) < thought()


def test_completions_go_on_with_texts_and_tokens(client: OpenAI) -> None:
    def text(**more: Any) -> Any:
        create: Any = client.completions.create
        return create(model="laguna-nano", **{"temperature": 0, "max_tokens": 8, **more})

    one = text(prompt="def total(", logprobs=1)
    choice = one.choices[0]
    assert choice.finish_reason == "length"
    assert (one.usage.completion_tokens, len(choice.logprobs.tokens)) == (8, 8)
    assert "".join(choice.logprobs.tokens) == choice.text
    streamed = text(prompt="def total(", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == choice.text
    both = text(prompt=["def total(", "a"])
    assert [choice.index for choice in both.choices] == [0, 1]
    assert both.choices[0].text == choice.text
    assert text(prompt=[5, 6, 7]).usage.prompt_tokens == 3
    stop = choice.text[3:5]
    cut = text(prompt="def total(", stop=[stop]).choices[0]
    assert (cut.text, cut.finish_reason) == (choice.text[: choice.text.index(stop)], "stop")


def test_a_seed_says_it_all_again(client: OpenAI) -> None:
    def text(seed: int) -> str:
        return client.completions.create(
            model="laguna-nano", prompt="a", seed=seed, temperature=1.5, max_tokens=40, extra_body={"top_k": 0}
        ).choices[0].text  # fmt: skip

    assert text(1) == text(1) != text(2)


# What is refused -----------------------------------------------------------------------------------------

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"messages": "Hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "nobody"}]}, "role"),
        ({**CHAT, "temperature": -1}, "temperature"),
        ({**CHAT, "n": 2}, "n: "),
        ({**CHAT, "max_tokens": 0}, "max_tokens"),
        ({**CHAT, "presence_penalty": 1}, "presence_penalty"),
        ({**CHAT, "response_format": {"type": "json_object"}}, "response_format"),
        ({**CHAT, "tool_choice": "required"}, "tool_choice"),
        ({**CHAT, "tools": [{"type": "function"}]}, "tools[0]"),
        ({**CHAT, "logprobs": True, "top_logprobs": 99}, "top_logprobs"),
        ({**CHAT, "chat_template_kwargs": {"unknown": 1}}, "chat_template_kwargs"),
        ([], "not a JSON object"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_its_name(url: str, asked: Any, words: str) -> None:
    status, body, _ = post(url, "/v1/chat/completions", json.dumps(asked))
    assert status == 400
    assert words in body["error"]["message"]
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("prompt", [[], [1_000_000], [[5], [-1]]])
def test_tokens_that_the_model_has_not_are_refused(url: str, prompt: Any) -> None:
    status, body, _ = post(url, "/v1/completions", json.dumps({"prompt": prompt}))
    assert (status, body["error"]["param"]) == (400, "prompt")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_over_the_context_is_refused_before_an_answer_begins(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, {"role": "user", "content": "word " * 20_000}, stream=stream)
    assert caught.value.code == "context_length_exceeded"


def test_whoever_may_not_come_in_learns_why_and_nothing_more(url: str) -> None:
    path = "/v1/chat/completions"
    assert post(url, path, "{}", Authorization="Bearer wrong-but-long-enough")[0] == 401
    assert "www-authenticate" in post(url, path, "{}", Authorization="")[2]
    assert post(url, path, "{}", Host="evil.example")[0] == 403
    assert post(url, path, "{}", Origin="https://evil.example")[0] == 403
    assert post(url, path, "{}", **{"Content-Encoding": "gzip"})[0] == 415
    assert post(url, path, "not json")[0] == 400
    assert post(url, "/v1/embeddings", "{}")[0] == 404
    assert post(url, "/v1/models", "{}")[0] == 405


def test_a_body_that_is_too_long_is_not_read(url: str) -> None:
    with closing(http.client.HTTPConnection(url.split("/")[2], timeout=30)) as connection:
        connection.putrequest("POST", "/v1/completions")
        connection.putheader("Authorization", f"Bearer {TOKEN}")
        connection.putheader("Content-Length", str(10**9))
        connection.endheaders(b"{")
        with closing(connection.getresponse()) as answer:
            assert answer.status == 413


def test_one_too_many_is_told_to_come_again_and_whoever_hangs_up_makes_room(client: OpenAI) -> None:
    def go_on(many: int) -> Any:
        return client.completions.create(
            model="laguna-nano", prompt="a", max_tokens=many, temperature=2, stream=True, extra_body={"top_k": 0}
        )

    with go_on(8000) as first:
        next(iter(first))
        with ThreadPoolExecutor(2) as pool:  # one answer runs, one more may wait, the other is told at once
            told = [pool.submit(go_on, 1) for _ in range(2)]
            error = next(done.exception() for done in as_completed(told))
            assert isinstance(error, openai.RateLimitError)
            assert error.response.headers["retry-after"]
            first.close()  # or the one that waits would wait for 8,000 tokens
    waited = next(done.result() for done in told if done.exception() is None)
    assert [chunk.choices[0].finish_reason for chunk in waited][-1] == "length"


# As a command --------------------------------------------------------------------------------------------


def test_our_agent_edits_by_a_model_that_is_served(url: str, tmp_path: Path) -> None:
    shutil.copytree(SAMPLE, tmp_path / "sample")
    (tmp_path / "token").write_text(TOKEN)
    options = [f"base_url={url}", f"api_key_file={tmp_path / 'token'}"]
    agent = [sys.executable, "-m", "acp", "exec", "--allow", "all", "--backend", "openai"]
    for option in options:
        agent += ["--backend-option", option]
    prompt = "Rename fmt_price to format_price in shop/prices.py"
    done = subprocess.run([*agent, prompt], cwd=tmp_path / "sample", capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "fmt_price" not in (tmp_path / "sample" / "shop" / "prices.py").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "0.0.0.0:0"], "not this machine alone"),
        (["--listen", "nowhere"], "not HOST:PORT"),
        (["--tls-cert", "c.pem"], "belong together"),
        (["--at-once", "many"], "at_once"),
        (["--cache-mib", "0"], "cache_mib is '0'; it is a number of at least 1"),
        (["--group", "64"], "only those in int4 are in groups"),
    ],
)
def test_options_that_make_no_sense_are_told(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["serve", *options])
    assert words in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_loaded_ends_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "laguna_backend", "serve", "--listen", "127.0.0.1:0", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("laguna serve: cannot load")
    assert b"Traceback" not in done.stderr
