"""Calls under the grammar: whatever the model would like, a call is well-formed; a well-formed one is left alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import laguna_backend
from acp_server.model import Sampling, ToolSpec, ToolUse, User
from acp_server.spelled.call import parse_call
from laguna_backend.chat.constrained import CallGrammars, WellFormedCalls
from laguna_backend.chat.grammar import Spelling
from laguna_backend.chat.tokenizer import RESERVED, THINK_END, TOOL_CALL, TOOL_CALL_END, TokenBytes, load_tokenizer
from laguna_backend.engine.request import Allowed, Extras, Forced
from laguna_backend.loading import load
from laguna_backend.speaker import alone

NANO = Path(laguna_backend.__file__).parent / "nano" / "checkpoint"
TOKENIZER = load_tokenizer(NANO / "tokenizer.json")
BYTES = TokenBytes(TOKENIZER)
SPELLINGS = {"S-2.1": Spelling("", "", "", "", ""), "XS.2": Spelling("\n", "\n", "\n", "\n", "\n")}


def tool(name: str, required: list[str] | None = None, **properties: Any) -> ToolSpec:
    return ToolSpec(name, "", {"type": "object", "properties": properties, "required": required or []})


TEXT, COUNT, SIZE, FLAG = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
TOOLS = [
    tool("read", ["path"], path=TEXT, limit=COUNT),
    tool("read_dir", ["deep"], path=TEXT, deep=FLAG),
    tool("resume.2", ["mode"], mode={"enum": ["a", "ab", "ö", 3, None]}, ratio=SIZE),
    tool("stop"),
    ToolSpec("anything", "", {"type": "object", "additionalProperties": True}),
    ToolSpec("closed", "", {"type": "object", "properties": {}, "additionalProperties": False}),
]


FLOATS = st.floats(-9e307, 9e307)
"""But for those of almost as many digits as a computer has."""


def encode(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def grammars(spelling: Spelling) -> CallGrammars:
    return CallGrammars(spelling, TOKENIZER.get_vocab_size(), encode, BYTES)


BOTH = {name: grammars(spelling) for name, spelling in SPELLINGS.items()}


def go_astray(calls: WellFormedCalls, seed: int, most: int) -> str | None:
    """The inside of a call by a model that says anything it may; None: it did not come to an end.

    Texts would have none, so that it closes them now and then.
    """
    chance, said = random.Random(seed), list[int]()
    calls.take(TOOL_CALL)
    plan = list[int]()
    while len(said) < most:
        match calls.next():
            case Forced(tokens):
                plan = []
                coming = list(tokens)
            case Allowed(mask):
                allowed = numpy.frombuffer(mask, numpy.uint8).nonzero()[0]
                if not plan and len(allowed) > 1000 and chance.random() < 0.3:
                    plan = encode("</arg_value>")
                    plan += [TOOL_CALL_END] if chance.random() < 0.5 else []
                if plan and mask[plan[0]]:
                    coming = [plan.pop(0)]
                else:
                    plan = []
                    coming = [
                        TOOL_CALL_END if mask[TOOL_CALL_END] and chance.random() < 0.5 else chance.choice(allowed)
                    ]
            case None:
                raise AssertionError("within a call anything goes")
        for token in coming:
            calls.take(token)
            if token == TOOL_CALL_END:
                return b"".join(map(BYTES, said)).decode(errors="replace")
            assert token >= RESERVED
            said.append(token)
    return None


@pytest.mark.parametrize("name", SPELLINGS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_call_that_comes_to_an_end_is_malformed(name: str, seed: int) -> None:
    body = go_astray(BOTH[name].of(TOOLS), seed, most=400)
    if body is None:
        return
    called, arguments, problem = parse_call(body, {spec.name: spec for spec in TOOLS}, complete=True)
    assert problem is None, body
    spec = next(spec for spec in TOOLS if spec.name == called)
    assert set(spec.parameters.get("required", ())) <= arguments.keys(), body
    known = spec.parameters.get("properties", {})
    for key, value in arguments.items():
        schema = known.get(key, {}) if called != "closed" else known[key]
        assert spec.name == "anything" or key in known
        match schema:
            case {"enum": choices}:
                assert value in choices
            case {"type": "integer"}:
                assert isinstance(value, int)
            case {"type": "number"}:
                assert isinstance(value, int | float)
            case {"type": "boolean"}:
                assert isinstance(value, bool)
            case _:
                pass


def test_most_calls_of_a_model_that_goes_astray_come_to_an_end() -> None:
    ended = [go_astray(BOTH["S-2.1"].of(TOOLS), seed, most=600) is not None for seed in range(40)]
    assert sum(ended) > 20


TEXTS = st.text(max_size=30) | st.sampled_from(["</arg_value>", "</arg_value>\nx", "<arg_key>", "./a", ">", "\n", "é"])


@st.composite
def a_call(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    spec = draw(st.sampled_from(TOOLS))
    known = spec.parameters.get("properties", {"some key": TEXT})
    keys = draw(st.permutations([*known]))
    needed = set(spec.parameters.get("required", ()))
    chosen = [key for key in keys if key in needed or draw(st.booleans())]
    values: dict[str, st.SearchStrategy[Any]] = {"string": TEXTS, "integer": st.integers(), "boolean": st.booleans()}
    values["number"] = FLOATS | st.integers()
    return spec.name, {
        key: draw(st.sampled_from(known[key]["enum"]) if "enum" in known[key] else values[known[key]["type"]])
        for key in chosen
    }


@pytest.mark.parametrize("name", SPELLINGS)
@settings(max_examples=150, deadline=None)
@given(call=a_call())
def test_a_call_as_it_should_be_is_written_as_it_would_be(name: str, call: tuple[str, dict[str, Any]]) -> None:
    spelling, (called, arguments) = SPELLINGS[name], call
    body = called + (spelling.named if arguments else spelling.bare)
    for index, (key, value) in enumerate(arguments.items()):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        between = spelling.valued if index < len(arguments) - 1 else spelling.ended
        body += f"<arg_key>{key}</arg_key>{spelling.keyed}<arg_value>{text}</arg_value>{between}"
    expected = [*encode(body), TOOL_CALL_END]
    if any(token < RESERVED for token in expected[:-1]):
        return
    calls = BOTH[name].of(TOOLS)
    calls.take(TOOL_CALL)
    at = 0
    while at < len(expected):
        answer = calls.next()
        if isinstance(answer, Forced):
            assert answer.tokens == tuple(expected[at : at + len(answer.tokens)]), body
        else:
            assert answer is not None and answer.mask[expected[at]], (body, BYTES(expected[at]))  # noqa: PT018
        for token in answer.tokens if isinstance(answer, Forced) else expected[at : at + 1]:
            calls.take(token)
            at += 1
    assert calls.next() is None


def test_what_is_the_same_in_every_call_is_not_drawn() -> None:
    calls = BOTH["S-2.1"].of([TOOLS[0]])
    calls.take(TOOL_CALL)
    forced = calls.next()
    assert isinstance(forced, Forced)
    assert b"".join(map(BYTES, forced.tokens)) == b"read<arg_key"


def test_outside_of_a_call_everything_goes() -> None:
    calls = BOTH["XS.2"].of(TOOLS)
    for token in (*encode("read<arg_key>"), THINK_END, TOOL_CALL_END):
        assert calls.next() is None
        calls.take(token)


def test_the_model_writes_the_call_that_it_is_made_to_write() -> None:
    """laguna-nano knows no tool of that name; under the grammar it calls it, and gives what it must."""
    speaker = load(NANO)
    weather = tool("show_weather", ["place", "days"], place=TEXT, days=COUNT, unit={"enum": ["c", "f"]})
    for seed in range(3):
        said = speaker.speak(
            [User("Show me shop/prices.py")],
            [weather],
            Sampling(temperature=1.0, seed=seed, max_tokens=400),
            Extras(must_call=True, one_call=True),
        )
        uses = [part for one in alone(speaker, said) for part in one.parts if isinstance(part, ToolUse)]
        if uses and uses[0].problem and "cut off" in uses[0].problem:
            continue  # a text without an end
        assert [(use.name, use.problem) for use in uses] == [("show_weather", None)]
        assert uses[0].arguments.keys() >= {"place", "days"}
        assert isinstance(uses[0].arguments["days"], int)


@pytest.mark.parametrize("name", ["XS.2", "XS-2.1", "S-2.1"])
def test_how_a_template_writes_calls_is_found_in_it(name: str) -> None:
    from laguna_backend.chat.encoding import Chat
    from laguna_backend.chat.template import ChatTemplate

    path = Path(__file__).resolve().parents[3] / "shared" / "templates" / f"poolside-Laguna-{name}.jinja"
    if not path.exists():
        pytest.skip("the official templates are not here")
    found = Chat(ChatTemplate(path.read_text()), TOKENIZER).spelling
    assert found in SPELLINGS.values()
