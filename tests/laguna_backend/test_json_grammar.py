"""Arguments that are JSON under the grammar of their schema: what passes parses and fits, and what fits passes."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_call_grammar import BYTES, SPELLINGS, TOKENIZER, encode, grammars, tool

from acp_server.spelled.call import parse_call
from laguna_backend.chat.constrained import WellFormedCalls
from laguna_backend.chat.grammar import Grammar, State
from laguna_backend.chat.json_grammar import DEEPEST
from laguna_backend.chat.json_schema import SchemaError, read_schema
from laguna_backend.chat.tokenizer import RESERVED, TOOL_CALL, TOOL_CALL_END
from laguna_backend.chat.vocabulary import Vocabulary
from laguna_backend.engine.request import Allowed, Forced

Schema = dict[str, Any]

TAGS = ["</arg_value>", "<arg_key>", "</tool_call>", "</arg_value> <arg_key>", "</arg_value></tool_call>"]
TEXTS = st.text(max_size=5) | st.sampled_from(['"', "\\", "\n\t\x01", "é🦀", *TAGS])
KEYS = st.sampled_from(["a", "ab", "b", 'q"', "é\n", ""])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS | TEXTS, v, max_size=3))


def enough(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return arrays(inner) | objects(inner) | st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner)


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    least, more = draw(st.integers(0, 2)), draw(st.none() | st.integers(0, 2))
    bounds = {"minItems": least} | ({} if more is None else {"maxItems": least + more})
    return {"type": "array", "items": draw(inner)} | (bounds if draw(st.booleans()) else {})


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    properties = draw(st.dictionaries(KEYS, inner, max_size=3))
    required = [key for key in (*properties, draw(KEYS)) if draw(st.booleans())]
    more = draw(st.sampled_from([None, True, False]) | inner)
    found: Schema = {"type": "object", "properties": properties, "required": list(dict.fromkeys(required))}
    if more is False:
        found["required"] = [key for key in found["required"] if key in properties]
    return found | ({} if more is None else {"additionalProperties": more})


SIMPLE: st.SearchStrategy[Schema] = st.one_of(
    st.sampled_from(["string", "integer", "number", "boolean", "null"]).map(lambda kind: {"type": kind}),
    st.just({}),
    st.lists(SCALARS, min_size=1, max_size=3).map(lambda choices: {"enum": choices}),
    st.just({"type": ["integer", "null"]}),
    st.just({"type": "string", "nullable": True}),
)
NESTED = st.recursive(SIMPLE, enough, max_leaves=6)
SCHEMAS = arrays(NESTED) | objects(NESTED)


@st.composite
def instances(draw: st.DrawFn, schema: Any) -> Any:
    """A value that fits."""
    if schema is True or not schema:
        return draw(VALUES)
    if "anyOf" in schema:
        return draw(instances(draw(st.sampled_from(schema["anyOf"]))))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    match draw(st.sampled_from([*kinds, *(["null"] if schema.get("nullable") else [])])):
        case "object":
            properties, more = schema["properties"], schema.get("additionalProperties", True)
            keys = [key for key in properties if key in schema["required"] or draw(st.booleans())]
            found = {key: draw(instances(properties[key])) for key in keys}
            others = [key for key in schema["required"] if key not in properties]
            if more is not False:
                others += draw(st.lists(KEYS | TEXTS, max_size=2))
                found |= {key: draw(instances(more)) for key in others if key not in properties}
            return dict(draw(st.permutations(list(found.items()))))
        case "array":
            least = schema.get("minItems", 0)
            most = schema.get("maxItems", least + 2)
            return [draw(instances(schema["items"])) for _ in range(draw(st.integers(least, most)))]
        case kind:
            values = {"null": st.none(), "boolean": st.booleans(), "integer": st.integers(), "string": TEXTS}
            return draw(values.get(str(kind), st.floats(allow_nan=False, allow_infinity=False) | st.integers()))


def begun(grammar: Grammar, text: bytes) -> State:
    state = grammar.begin
    for byte in text:
        state = grammar.after(state, byte)
    return state


PRE = b"t<arg_key>x</arg_key><arg_value>"


def of(schema: Schema, **defs: Schema) -> Grammar:
    spec = tool("t", ["x"], x=schema)
    return Grammar([spec if not defs else type(spec)("t", "", {**spec.parameters, "$defs": defs})], SPELLINGS["S-2.1"])


def go_astray(grammar: Grammar, chance: random.Random, most: int = 3000) -> bytes | None:
    """What is written of a value by whoever writes anything that may come, and is soon for closing."""
    state, said = begun(grammar, PRE), bytearray()
    while len(said) < most:
        allowed = grammar.bytes_after(state)
        assert allowed, bytes(said)
        closing = [byte for byte in allowed if byte in b'"]}<' and len(said) > 60]
        byte = chance.choice(closing or allowed) if chance.random() < 0.7 else chance.choice(allowed)
        said.append(byte)
        state = grammar.after(state, byte)
        if grammar.may_end(state):
            return bytes(said)
    return None


@settings(max_examples=120, deadline=None)
@given(schema=SCHEMAS, seed=st.integers(0, 2**32))
def test_whatever_passes_parses_and_fits(schema: Schema, seed: int) -> None:
    grammar = of(schema)
    try:
        read_schema(schema, schema)
    except SchemaError:
        assert grammar.is_free(begun(grammar, PRE))
        return
    if (said := go_astray(grammar, random.Random(seed))) is None:
        return
    body = (PRE + said).decode(errors="replace")
    specs = {"t": tool("t", ["x"], x=schema)}
    _, arguments, problem = parse_call(body, specs, complete=True)
    assert problem is None, body
    jsonschema.validate(arguments["x"], standard(schema))


def standard(schema: Any) -> Any:
    """`nullable`, which is OpenAPI's, in words of JSON Schema's."""
    if isinstance(schema, list):
        return [standard(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: standard(inner) for key, inner in schema.items()}
    return {"anyOf": [found, {"type": "null"}]} if found.get("nullable") is True else found


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_fits_passes_however_it_is_laid_out(data: st.DataObject) -> None:
    schema = data.draw(SCHEMAS)
    value = data.draw(instances(schema))
    layout: Any = data.draw(st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"indent": "\t"}]))
    text = json.dumps(value, ensure_ascii=False, **layout)
    specs = {"t": tool("t", ["x"], x=schema)}
    whole = PRE.decode() + text + "</arg_value>"
    _, arguments, problem = parse_call(whole, specs, complete=True)
    if problem or arguments != {"x": value}:  # it spells the end of the argument, and would be read otherwise
        return
    grammar = of(schema)
    state = begun(grammar, PRE)
    for at, byte in enumerate(text.encode() + b"</arg_value>"):
        state = grammar.after(state, byte)
        assert state, (text.encode()[: at + 1], schema)
    assert grammar.may_end(state)


def accepts(schema: Schema, text: str, **defs: Schema) -> bool:
    grammar = of(schema, **defs)
    state = begun(grammar, PRE + text.encode() + b"</arg_value>")
    return bool(state) and grammar.may_end(state) and not grammar.is_free(state)


POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ('{"x": 1}', True),
        ("{}", False),
        ('{"x": 1, "x": 2}', False),
        ('{"\\u0078": 1}', False),
        ('{"x": 1.5}', False),
        ('{"x": 01}', False),
        ('{"x": 1,}', False),
        ('{"x": 1, "y": 2}', False),
        (' {"x": 1}', False),
        ("{ \n\t\"x\" :1\r\n}", True),
    ],
)  # fmt: skip
def test_an_object_is_kept_to_its_properties(text: str, passes: bool) -> None:
    assert accepts(POINT, text) == passes


def test_no_declared_key_can_be_spelled_so_that_it_is_another() -> None:
    schema = {"type": "object", "properties": {"a\nb": {"type": "integer"}}, "additionalProperties": {"type": "string"}}
    assert accepts(schema, '{"a\\nb": 1, "a": "", "a\\nbc": ""}')
    assert not accepts(schema, '{"a\\nb": ""}')
    for other in ("\\u0061\\nb", "a\\u000ab", "a\\u000Ab"):
        assert not accepts(schema, f'{{"{other}": ""}}')


def test_a_text_has_no_half_of_a_pair_and_no_control_character() -> None:
    schema = {"type": "array", "items": {"type": "string"}}
    assert accepts(schema, '["\\u00e9\\uD7ff\\/\x7f"]')
    for wrong in ("\\ud83d", "\\uDE00", "\\x41", "\n", "\\u12"):
        assert not accepts(schema, f'["{wrong}"]')


def test_a_schema_may_lead_back_to_itself() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["next"],
        "additionalProperties": False,
    }
    assert accepts({"$ref": "#/$defs/node"}, '{"next": {"next": null}}', node=node)
    assert not accepts({"$ref": "#/$defs/node"}, '{"next": {}}', node=node)

    def nested(depth: int) -> str:
        return '{"next": ' * depth + "null" + "}" * depth

    assert accepts({"$ref": "#/$defs/node"}, nested(DEEPEST), node=node)
    assert not accepts({"$ref": "#/$defs/node"}, nested(DEEPEST + 1), node=node)


@pytest.mark.parametrize("schema", [{"type": "array"}, {"type": "object"}])
def test_what_is_not_told_goes_as_deep_as_there_is_an_end_to_it(schema: Schema) -> None:
    text = "[" * DEEPEST + "1" + "]" * DEEPEST
    inner = text if schema["type"] == "array" else f'{{"a": {text[1:-1]}}}'
    assert accepts(schema, inner)
    assert not accepts(schema, inner.replace("1", "[1]"))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"x": {"$ref": "#/properties/x"}}, "required": ["x"]},
        {"type": "array", "items": False, "minItems": 1},
        {"type": "array", "minItems": 2, "maxItems": 1},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"anyOf": [{"type": "object"}, {}]},
        {"type": ["array", "string"]},
    ],
)
def test_what_no_value_fits_and_what_may_be_a_text_is_free(schema: Schema) -> None:
    grammar = of(schema)
    assert grammar.is_free(begun(grammar, PRE))


@pytest.mark.parametrize(
    "text",
    ["[", '["', '["é', '["a</arg_value>', '["\\', '[{"', '[{"ke', '[{"zz', '[{"key": -', '[{"key": 1}, ["a", "b"]'],
)
def test_a_mask_is_what_each_token_would_lead_to(text: str) -> None:
    items = {"type": "object", "properties": {"key": {"type": "integer"}}}
    grammar = of({"type": "array", "items": {"anyOf": [items, {"type": "array"}, {"type": "string"}]}})
    state = begun(grammar, PRE + text.encode())
    mask = Vocabulary(TOKENIZER.get_vocab_size(), BYTES).mask(grammar, state)

    def allowed(token: int) -> bool:
        now = state
        for byte in BYTES(token):
            now = grammar.after(now, byte)
            if grammar.is_free(now):
                return True
        return bool(now) and bool(BYTES(token))

    expected = [token for token in range(RESERVED, TOKENIZER.get_vocab_size()) if allowed(token)]
    assert numpy.frombuffer(mask, numpy.uint8).nonzero()[0].tolist() == expected
    assert len(expected) > 1


def test_keys_that_are_begun_are_not_drawn() -> None:
    calls = grammars(SPELLINGS["S-2.1"]).of([tool("t", ["x"], x={"type": "array", "items": POINT})])
    calls.take(TOOL_CALL)
    drawn = write(calls, PRE.decode() + '[{"x": 1}, {"x": -20}]</arg_value>')
    assert 0 < drawn < len(encode('[{"x": 1}, {"x": -20}]'))


def write(calls: WellFormedCalls, text: str) -> int:
    """Write a call's inside as a model would. How many tokens were not forced."""
    expected, at, drawn = [*encode(text), TOOL_CALL_END], 0, 0
    while at < len(expected):
        match calls.next():
            case Forced(tokens):
                assert tokens == tuple(expected[at : at + len(tokens)])
            case Allowed(mask):
                assert mask[expected[at]]
                tokens, drawn = (expected[at],), drawn + 1
            case None:
                raise AssertionError("within a call something is asked")
        for token in tokens:
            calls.take(token)
        at += len(tokens)
    return drawn
