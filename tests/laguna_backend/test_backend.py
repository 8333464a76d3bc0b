"""A checkpoint directory as a `ModelBackend`, and as the `laguna` command shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from safetensors.torch import load_file, save_file
from tiny_checkpoint import READ, write_checkpoint

from acp_server.model import (
    Assistant,
    ModelBackend,
    ModelError,
    Part,
    Sampling,
    Stop,
    System,
    Text,
    Thought,
    TooLong,
    ToolResult,
    ToolSpec,
    ToolUse,
    User,
)
from laguna_backend import LagunaBackend, open_backend
from laguna_backend.__main__ import main
from laguna_backend.backend import NANO
from laguna_backend.chat.tokenizer import TOOL_CALL
from laguna_backend.checkpoint.free import free_memory
from laguna_backend.engine.limits import Limits
from laguna_backend.engine.request import Extras, Finish, Rule, Step
from laguna_backend.loading import default_rule, load
from laguna_backend.speaker import alone

pytestmark = pytest.mark.anyio

CONVERSATION = [System("Be."), User("Hi")]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny-laguna", seed=1)


async def step(backend: LagunaBackend, conversation: list[Any], **options: Any) -> list[Part]:
    with anyio.fail_after(20):
        return [part async for part in backend.generate(conversation, [READ], Sampling(**options))]


def joined(parts: Sequence[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text | Thought))


def stop_of(parts: list[Part]) -> Stop:
    assert isinstance(parts[-1], Stop)
    assert not any(isinstance(part, Stop) for part in parts[:-1])
    return parts[-1]


async def test_it_is_a_model_backend_and_says_what_it_is(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    assert isinstance(backend, ModelBackend)
    info = await backend.ready()
    assert (info.name, info.context_size, info.compact, info.thinking) == ("tiny-laguna", 1024, True, True)
    assert 1.0 <= info.bytes_per_token < 2
    await backend.aclose()


async def test_a_long_context_is_not_compact(tmp_path: Path) -> None:
    backend = open_backend(str(write_checkpoint(tmp_path, max_position_embeddings=16_384)))
    assert not (await backend.ready()).compact
    await backend.aclose()


async def test_a_step_ends_with_one_stop_that_counts_its_tokens(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    stop = stop_of(await step(backend, CONVERSATION, max_tokens=15))
    assert stop.reason == "max_tokens"
    assert (stop.usage.output, stop.usage.cached) == (15, 0)
    assert stop.usage.input > 50
    assert stop.seconds > 0
    await backend.aclose()


async def test_greedy_and_seeded_steps_repeat(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    for options in ({"temperature": 0.0}, {"temperature": 1.0, "seed": 7}):
        first = await step(backend, CONVERSATION, max_tokens=20, **options)
        again = await step(backend, CONVERSATION, max_tokens=20, **options)
        assert first[:-1] == again[:-1]
    await backend.aclose()


async def test_thinking_is_switched_by_the_request(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    thought = await step(backend, CONVERSATION, max_tokens=8, thinking=True, temperature=1.0, seed=3)
    plain = await step(backend, CONVERSATION, max_tokens=8, thinking=False, temperature=1.0, seed=3)
    assert isinstance(thought[0], Thought)
    assert isinstance(plain[0], Text)
    assert stop_of(thought).usage.thought > 0
    assert stop_of(plain).usage.thought == 0
    await backend.aclose()


async def test_the_second_step_computes_only_what_is_new(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    first = await step(backend, CONVERSATION, max_tokens=400, temperature=1.0, seed=11)
    stop = stop_of(first)
    assert stop.reason != "max_tokens", "these random weights never end their turn; try another seed"
    message = Assistant(
        "".join(p.text for p in first if isinstance(p, Text)),
        "".join(p.text for p in first if isinstance(p, Thought)),
        tuple(p for p in first if isinstance(p, ToolUse)),
        stop.step_id,
    )
    second = stop_of(await step(backend, [*CONVERSATION, message, User("Go on")], max_tokens=5))
    assert second.usage.cached == stop.usage.input + stop.usage.output - 1
    await backend.aclose()


async def test_too_much_text_is_refused_and_the_session_goes_on(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    with pytest.raises(TooLong, match="context"):
        await step(backend, [User("x" * 1_000_000)])
    assert stop_of(await step(backend, CONVERSATION, max_tokens=3))
    await backend.aclose()


async def test_cancelling_leaves_a_backend_that_goes_on(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    expected = await step(backend, CONVERSATION, max_tokens=30)
    for count in range(4):
        stream = backend.generate(CONVERSATION, [READ], Sampling(max_tokens=500))
        for _ in range(count):
            await anext(stream)
        await stream.aclose()
    assert (await step(backend, CONVERSATION, max_tokens=30))[:-1] == expected[:-1]
    await backend.aclose()


async def test_sampling_that_makes_no_sense_is_told(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    with pytest.raises(ModelError, match="top_p"):
        await step(backend, CONVERSATION, top_p=7.0)
    await backend.aclose()


async def test_a_thinking_budget_ends_thoughts_and_the_answer_goes_on(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    parts = await step(backend, CONVERSATION, max_tokens=30, temperature=1.0, seed=3, thinking_budget=5)
    stop = stop_of(parts)
    assert (stop.usage.thought, stop.usage.output) == (6, 30)  # and the tag that ended them
    assert any(isinstance(part, Text) for part in parts)
    await backend.aclose()


# Beyond what an agent asks -------------------------------------------------------------------------------


async def test_a_step_can_be_followed_token_by_token(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    sampling = Sampling(max_tokens=12)
    async with aclosing(backend.speak(CONVERSATION, [READ], sampling, Extras(logprobs=3))) as spoken:
        *steps, last = [said async for said in spoken]
    assert isinstance(last.step, Finish)
    assert (last.step.generated, last.step.reason) == (12, "length")
    parts = [part for said in [*steps, last] for part in said.parts]
    expected = await step(backend, CONVERSATION, max_tokens=12)
    assert joined(parts[:-1]) == joined(expected[:-1])
    for said in steps:
        assert isinstance(said.step, Step)
        assert said.step.logprob == said.step.top[0][1]  # greedy: the most likely one
        assert len(said.step.top) == 3
    await backend.aclose()


async def test_a_text_to_stop_at_ends_the_answer_without_it(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    options: dict[str, Any] = {"thinking": False, "temperature": 1.0, "seed": 3, "max_tokens": 25}
    whole = joined((await step(backend, CONVERSATION, **options))[:-1])
    stop = whole[4:7]
    spoken = backend.speak(CONVERSATION, [READ], Sampling(**options), Extras(stop=(stop,)))
    said = [one async for one in spoken]
    assert joined([part for one in said for part in one.parts]) == whole[: whole.index(stop)].rstrip("\n")
    assert isinstance(said[-1].step, Finish)
    assert said[-1].step.by == stop
    await backend.aclose()


async def test_a_text_is_gone_on_with_as_it_is(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    sampling = Sampling(max_tokens=6)
    steps = [one async for one in backend.complete("a path to read", sampling, Extras())]
    ids = await backend.ask(lambda speaker: speaker.chat.encode("a path to read"))
    assert [one async for one in backend.complete([2, *ids], sampling, Extras())][:-1] == steps[:-1]
    assert isinstance(steps[-1], Finish)
    assert steps[-1].prompt == len(ids) + 1
    with pytest.raises(ModelError, match="empty"):
        await anext(backend.complete([], sampling, Extras()))
    size = await backend.ask(lambda speaker: speaker.engine.laguna.config.vocab_size)
    for token in (-1, size, 1 << 70):
        with pytest.raises(ModelError, match=f"does not know: its own are 0 to {size - 1}"):
            await anext(backend.complete([2, token, 5], sampling, Extras()))
    assert [one async for one in backend.complete([2, *ids], sampling, Extras())][:-1] == steps[:-1]
    with pytest.raises(ModelError, match="max_tokens"):
        await anext(backend.complete("x", Sampling(max_tokens=0), Extras()))
    await backend.aclose()


async def test_a_tool_result_and_a_call_that_failed_can_be_shown(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    use = ToolUse("1", "read", {"path": "a\ud800"}, "path is wrong")
    history = [*CONVERSATION, Assistant("", "", (use,), "elsewhere"), ToolResult("1", "read", "</tool_response>", True)]
    assert stop_of(await step(backend, history, max_tokens=3))
    await backend.aclose()


async def test_closing_stops_a_step_and_refuses_the_next(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint))
    stream = backend.generate(CONVERSATION, [], Sampling(max_tokens=100_000))
    await anext(stream)
    await backend.aclose()
    with pytest.raises(ModelError, match="closed"):
        async for _ in stream:
            pass
    with pytest.raises(ModelError, match="closed"):
        await step(backend, CONVERSATION)
    await backend.aclose()


# Checkpoints that cannot be loaded -----------------------------------------------------------------------


def drop(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def rewrite(name: str, content: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory / name).write_text(content)

    return change


def cut_short(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def change_config(**changed: Any) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


def break_tensor(directory: Path) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][0] = float("inf")
    save_file(tensors, path)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (drop("config.json"), "config.json"),
    "no tokenizer": (drop("tokenizer.json"), "tokenizer.json"),
    "no template": (drop("chat_template.jinja"), "chat_template.jinja"),
    "no weights": (drop("model.safetensors"), "safetensors"),
    "cut short": (cut_short, "model.safetensors"),
    "a missing shard": (
        rewrite("model.safetensors.index.json", '{"weight_map": {"x": "model-00002-of-00002.safetensors"}}'),
        "model-00002-of-00002",
    ),
    "another model": (change_config(model_type="llama"), "llama"),
    "another width": (change_config(hidden_size=64), "64"),
    "too many layers": (change_config(num_hidden_layers=4), "layer_types"),
    "too few words": (change_config(vocab_size=100), "embed_tokens|vocab|tokens"),
    "config is a list": (rewrite("config.json", "[]"), "config.json"),
    "generation config is broken": (rewrite("generation_config.json", "{"), "generation_config.json"),
    "sampling that makes no sense": (rewrite("generation_config.json", '{"temperature": "hot"}'), "hot"),
    "a template that does not compile": (rewrite("chat_template.jinja", "{% if %}"), "template"),
    "infinity": (break_tensor, "model.norm.weight"),
}  # fmt: skip


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("case", list(BROKEN))
async def test_a_broken_checkpoint_says_what_is_wrong(tmp_path: Path, case: str, anyio_backend: str) -> None:
    change, expected = BROKEN[case]
    change(write_checkpoint(tmp_path))
    backend = open_backend(str(tmp_path))
    with pytest.raises(ModelError, match=expected):
        await backend.ready()
    await backend.aclose()


async def test_no_such_directory_says_so(tmp_path: Path) -> None:
    backend = open_backend(str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="no checkpoint directory"):
        await backend.ready()
    await backend.aclose()


async def test_a_device_that_is_not_there_says_so(checkpoint: Path) -> None:
    backend = open_backend(str(checkpoint), device="abacus")
    with pytest.raises(ModelError, match="abacus"):
        await backend.ready()
    await backend.aclose()


def test_opening_a_backend_imports_no_torch() -> None:
    script = "import sys, laguna_backend; laguna_backend.open_backend(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def test_limits_are_options_and_wrong_ones_are_refused() -> None:
    given = {"at_once": "3", "waiting": "5", "cache_mib": "7", "snapshot_mib": "0", "chunk": "64", "guess": "off"}
    assert open_backend(**given).limits == Limits(3, 5, 7 << 20, 0, chunk=64, guess=False)
    assert open_backend().limits == Limits()
    for wrong in ({"at_once": "many"}, {"at_once": "0"}, {"chunk": "100"}, {"guess": "yes"}):
        with pytest.raises(ValueError, match=r"at_once|running|chunk|guess"):
            open_backend(**wrong)


async def test_the_caches_memory_is_half_of_what_is_free_unless_it_is_said(checkpoint: Path) -> None:
    for options, most in (({}, free_memory()), ({"cache_mib": "9"}, 9 << 20)):
        backend = open_backend(str(checkpoint), **options)
        found = await backend.ask(lambda speaker: speaker.engine.limits.cache)
        assert found is not None
        assert 0 < found <= most
        await backend.aclose()


def test_the_default_is_laguna_nano() -> None:
    assert open_backend().directory == NANO


# The command ---------------------------------------------------------------------------------------------


def test_generate_streams_an_answer(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(checkpoint), "Hi", "--no-thinking", "--max-tokens", "4", "--kv", "fp8"]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip()
    assert "max_tokens: " in shown.err
    assert "4 out" in shown.err


def test_generate_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(tmp_path / "nowhere"), "Hi"]) == 1
    assert "no checkpoint directory" in capsys.readouterr().err


def test_info_shows_the_checkpoint(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(checkpoint)]) == 0
    shown = capsys.readouterr().out
    count = sum(tensor.numel() for tensor in load_file(checkpoint / "model.safetensors").values())
    assert f"{count:,}" in shown
    assert "tiny-laguna" in shown
    assert "1,024 tokens" in shown


@pytest.mark.parametrize("left", [0, 4, 100_000, None])
def test_info_finds_weights_that_are_damaged(
    tmp_path: Path, left: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_checkpoint(tmp_path) / "model.safetensors"
    path.write_bytes(bytes(range(256)) * 800 if left is None else path.read_bytes()[:left])
    assert main(["info", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "\nfits" not in shown.out
    assert shown.err.startswith("laguna: model.safetensors is not a whole safetensors file")


def test_nano_is_the_model_that_ships_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_backend("nano").directory == NANO
    assert main(["generate", "nano", "Hi", "--max-tokens", "1"]) == 0
    assert main(["info", "nano"]) == 0
    assert "laguna-nano" in capsys.readouterr().out
    write_checkpoint(tmp_path / "nano")  # whoever has one of that name means it
    assert open_backend("nano").directory == tmp_path / "nano"
    assert main(["info", "nano"]) == 0
    assert "laguna-nano" not in capsys.readouterr().out


async def test_caches_that_hold_no_conversation_are_refused_at_the_start(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="cache_mib is '0'"):
        open_backend(cache_mib="0")
    backend = LagunaBackend(checkpoint, limits=Limits(cache=2000))
    with pytest.raises(ModelError, match="the shortest conversation needs"):
        await backend.ready()
    await backend.aclose()


@pytest.mark.parametrize(
    ("file", "changed", "words"),
    [
        ("generation_config.json", {"temperature": "hot"}, "generation_config.json: temperature is 'hot'"),
        ("generation_config.json", {"top_k": -1}, "top_k is -1"),
        ("generation_config.json", {"eos_token_id": "x"}, "generation_config.json: eos_token_id is 'x'"),
        ("config.json", {"eos_token_id": "x"}, "eos_token_id is 'x', not token ids"),
    ],
)
def test_wrong_fields_of_a_checkpoint_are_named(
    tmp_path: Path, file: str, changed: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_checkpoint(tmp_path) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_sample": True} | changed))
    assert main(["generate", str(tmp_path), "Hi", "--max-tokens", "1"]) == 1
    assert words in capsys.readouterr().err


def test_what_is_null_in_a_generation_config_is_not_given(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "do_sample", "eos_token_id"))
    (write_checkpoint(tmp_path) / "generation_config.json").write_text(json.dumps(nothing))
    assert default_rule(tmp_path) == Rule(temperature=0.7, top_k=20)
    assert load(tmp_path).rule == Rule(temperature=0.7, top_k=20)


def test_groups_are_for_int4_only(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="only those in int4 are in groups"):
        open_backend(group="64")
    open_backend(group="64", weights="int4")
    data = ["--data", str(checkpoint / "config.json")]
    for command in (["generate", str(checkpoint), "Hi"], ["bench"], ["fidelity"], ["train", str(checkpoint), *data]):
        with pytest.raises(SystemExit):
            main([*command, "--group", "64"])
        assert "only those in int4 are in groups" in capsys.readouterr().err


def test_no_call_comes_where_no_tools_are_offered() -> None:
    """Neither drawn nor greedily, in thoughts or after them: nano would call a tool at once."""
    speaker = load(NANO)
    for seed in range(4):
        for thinking in (True, False):
            sampling = Sampling(temperature=float(seed), seed=seed, max_tokens=60, thinking=thinking)
            said = list(alone(speaker, speaker.speak([User("Run `make test`.")], [], sampling, Extras())))
            assert TOOL_CALL not in [one.step.token for one in said if isinstance(one.step, Step)]
            parts = [part for one in said for part in one.parts]
            assert any(isinstance(part, Text | Thought) for part in parts)
            assert not any(isinstance(part, ToolUse) for part in parts)
    shell = ToolSpec("shell", "", {"type": "object", "properties": {"command": {"type": "string"}}})
    parts = list(alone(speaker, speaker.say([User("Run `make test`.")], [shell], Sampling(max_tokens=200))))
    assert any(isinstance(part, ToolUse) for part in parts)


def test_info_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_checkpoint(tmp_path) / "model.safetensors").unlink()
    assert main(["info", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "cannot be read" in shown.out
    assert "would fit" in shown.out  # once it is whole
    assert "holds neither model.safetensors nor" in shown.err
    (tmp_path / "config.json").unlink()
    assert main(["info", str(tmp_path)]) == 1


@pytest.mark.parametrize("words", [[], ["fly"], ["train-nano"]])
def test_a_wrong_command_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "laguna" in capsys.readouterr().err


def test_help_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "generate" in capsys.readouterr().out


def test_a_reader_that_leaves_early_is_no_error(checkpoint: Path) -> None:
    script = "import os, sys; from laguna_backend.__main__ import main; os.read(0, 1); sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "info", str(checkpoint)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write(b"x")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141
