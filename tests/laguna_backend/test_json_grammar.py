"""Arguments that are JSON under the grammar of their schema: what passes parses and fits, and what fits passes."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import jsonschema
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_call_grammar import BYTES, FLOATS, SPELLINGS, TOKENIZER, encode, grammars, tool

from acp_server.model import ToolSpec
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
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | TEXTS
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


@st.composite
def bounded(draw: st.DrawFn, words: tuple[str, str], lowest: int) -> Schema:
    least, more = draw(st.integers(lowest, 12)), draw(st.integers(0, 120))
    found = {words[0]: least, words[1]: least + more}
    return {word: found[word] for word in words if draw(st.booleans())}


LENGTHS = bounded(("minLength", "maxLength"), 0)
SIZES = st.one_of(
    bounded(("minimum", "maximum"), -12),
    bounded(("exclusiveMinimum", "exclusiveMaximum"), -3).filter(lambda found: distance(found) > 1),
    st.just({"minimum": -2.5, "exclusiveMaximum": 1e3}),
)


def distance(bounds: Schema) -> float:
    return bounds["exclusiveMaximum"] - bounds["exclusiveMinimum"] if len(bounds) == 2 else 2


SIMPLE: st.SearchStrategy[Schema] = st.one_of(
    st.sampled_from(["string", "integer", "number", "boolean", "null"]).map(lambda kind: {"type": kind}),
    st.just({}),
    st.lists(SCALARS, min_size=1, max_size=3).map(lambda choices: {"enum": choices}),
    st.just({"type": ["integer", "null"]}),
    st.just({"type": "string", "nullable": True}),
    SCALARS.map(lambda value: {"const": value}),
    LENGTHS.map(lambda found: {"type": "string"} | found),
    LENGTHS.map(lambda found: {"type": ["string", "null"]} | found),
    SIZES.map(lambda found: {"type": "integer"} | found),
    st.sampled_from(["word", "pair", "way", "some"]).map(lambda name: {"$ref": f"#/$defs/{name}"}),
)
DEFS: Schema = {
    "word": {"enum": ["red", "blue", "</arg_value>"]},
    "pair": {"type": "array", "items": {"$ref": "#/$defs/word"}, "minItems": 2, "maxItems": 2},
    "way": {"anyOf": [{"$ref": "#/$defs/pair"}, {"type": "null"}]},
    "some": {"allOf": [{"$ref": "#/$defs/word"}]},
}
NESTED = st.recursive(SIMPLE, enough, max_leaves=6)
SCHEMAS = arrays(NESTED) | objects(NESTED) | NESTED


LEAST, MOST = {"minimum": 0, "exclusiveMinimum": 1}, {"maximum": 0, "exclusiveMaximum": 1}


@st.composite
def instances(draw: st.DrawFn, schema: Any) -> Any:
    """A value that fits."""
    if schema is True or not schema:
        return draw(VALUES)
    if "$ref" in schema:
        return draw(instances(DEFS[schema["$ref"].removeprefix("#/$defs/")]))
    if "allOf" in schema:
        return draw(instances(schema["allOf"][0]))
    if "const" in schema:
        return schema["const"]
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
        case "string":
            least, most = schema.get("minLength", 0), schema.get("maxLength")
            fitting = TEXTS.filter(lambda text: least <= len(text) <= (most or len(text)))
            return draw(fitting if least < 3 else st.text(min_size=least, max_size=most))
        case "integer":
            least = max((schema[word] + more for word, more in LEAST.items() if word in schema), default=None)
            most = min((schema[word] - more for word, more in MOST.items() if word in schema), default=None)
            return draw(st.integers(least if least is None else math.ceil(least), most if most is None else int(most)))
        case kind:
            values = {"null": st.none(), "boolean": st.booleans()}
            return draw(values.get(str(kind), FLOATS | st.integers()))


def begun(grammar: Grammar, text: bytes) -> State:
    state = grammar.begin
    for byte in text:
        state = grammar.after(state, byte)
    return state


PRE = b"t<arg_key>x</arg_key><arg_value>"


def of(schema: Schema, **defs: Schema) -> Grammar:
    return Grammar([spec_of(schema, **defs)], SPELLINGS["S-2.1"])


def spec_of(schema: Schema, **defs: Schema) -> ToolSpec:
    return ToolSpec("t", "", {**tool("t", ["x"], x=schema).parameters, "$defs": {**DEFS, **defs}})


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
    grammar, whole = of(schema), spec_of(schema)
    try:
        read_schema(schema, whole.parameters)
    except SchemaError:
        assert grammar.is_free(begun(grammar, PRE))
    if grammar.is_free(begun(grammar, PRE)):
        return
    if (said := go_astray(grammar, random.Random(seed))) is None:
        return
    body = (PRE + said).decode(errors="replace")
    _, arguments, problem = parse_call(body, {"t": whole}, complete=True)
    assert problem is None, body
    jsonschema.validate(arguments["x"], {**standard(schema), "$defs": DEFS})


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
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, **layout)
    specs = {"t": spec_of(schema)}
    whole = PRE.decode() + text + "</arg_value>"
    _, arguments, problem = parse_call(whole, specs, complete=True)
    if problem or arguments != {"x": value}:  # it spells the end of the argument, and would be read otherwise
        return
    grammar = of(schema)
    state = begun(grammar, PRE)
    for at, byte in enumerate(text.encode() + b"</arg_value>"):
        state = grammar.after(state, byte)
        assert state, (text.encode()[: at + 1], schema)
        if grammar.is_free(state):
            return
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


WORD = {"enum": ["red", "blue"]}
KEPT: list[tuple[Schema, list[str], list[str]]] = [
    ({"$ref": "#/$defs/word"}, ["red", "</arg_value>"], ["green", "re", '"red"']),
    ({"anyOf": [{"$ref": "#/$defs/word"}, {"type": "null"}]}, ["red", "null"], ["nul", "'null'"]),
    ({"allOf": [{"$ref": "#/$defs/word"}]}, ["red"], ["green"]),
    ({"type": ["string", "null"], "enum": ["red", None]}, ["red", "null"], ["blue"]),
    ({"enum": ["3", "true"]}, ["3", "true"], ["4", "3.0"]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "é🦀\n", '"\\'], ["a", "abcd", "\n", "", "<arg>"]),
    ({"type": "string", "maxLength": 12}, ["", "</arg_value>", "</arg_value"], ["</arg_value>x"]),
    ({"type": ["string", "null"], "maxLength": 2}, ["ab", "null"], ["nul", "nulls"]),
    ({"type": "integer", "minimum": 7, "maximum": 120}, ["7", "69", "120"], ["6", "121", "0", "-7", "07", "1200"]),
    ({"type": "integer", "exclusiveMinimum": -5, "exclusiveMaximum": 2.5}, ["-4", "0", "2"], ["-5", "3", "-0", "-10"]),
    ({"type": "number", "minimum": 0}, ["0", "0.5", "1e-7", "12E+300"], ["-1", "-0.5", "1e308", "12e307"]),
    ({"type": "number"}, ["-1.5e-300", "0.1e+307"], ["1e", "1.", "--1", ".5"]),
    ({"type": "array", "items": WORD, "maxItems": 1}, ["[]", '["red"]'], ['["green"]', '["red", "red"]']),
    ({"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 2}},
     ['["é", "\\"\\n", "\\u0041b"]'], ['[""]', '["abc"]', '["\\u00e9"]', '["\\"\\n\\t"]']),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "fitting", "others"), KEPT)
def test_what_is_kept_to(schema: Schema, fitting: list[str], others: list[str]) -> None:
    assert [text for text in fitting if not accepts(schema, text)] == []
    assert [text for text in others if accepts(schema, text)] == []


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
        {"type": ["string", "integer"], "maxLength": 3},
        {"anyOf": [{"type": "string", "maxLength": 3}, {"enum": [True]}]},
        {"type": "integer", "minimum": 0.2, "maximum": 0.8},
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"enum": ["a</arg_value><arg_key>"]},
        {"anyOf": [{"enum": ["3"]}, {"type": "integer", "maximum": 2}]},
    ],
)
def test_what_no_value_fits_and_what_may_be_a_text_is_free(schema: Schema) -> None:
    grammar = of(schema)
    assert grammar.is_free(begun(grammar, PRE))


@pytest.mark.parametrize(
    "text",
    ["[", '["', '["é', '["a</arg_value>', '["\\', '[{"', '[{"ke', '[{"zz', '[{"key": -', '[{"key": 1}, ["a", "b"]'],
)
@pytest.mark.parametrize("bounds", [{}, {"minLength": 2, "maxLength": 14}])
def test_a_mask_is_what_each_token_would_lead_to(text: str, bounds: Schema) -> None:
    items = {"type": "object", "properties": {"key": {"type": "integer"}}}
    texts: Schema = {"type": "string", **bounds}
    check_mask(of({"type": "array", "items": {"anyOf": [items, {"type": "array"}, texts]}}), text.encode())


@pytest.mark.parametrize("text", ["", "a", "ab", "\n🦀", "abcdefgh", "a</arg_value>"])
@pytest.mark.parametrize("bounds", [(0, 14), (9, 15), (2, 40)])
def test_a_mask_within_a_bounded_text_is_too(text: str, bounds: tuple[int, int]) -> None:
    grammar = of({"type": ["string", "null"], "minLength": bounds[0], "maxLength": bounds[1]})
    check_mask(grammar, text.encode())
    if len(text) < bounds[1]:
        check_mask(grammar, text.encode() + "🦀".encode()[:2])


def check_mask(grammar: Grammar, text: bytes) -> None:
    state = begun(grammar, PRE + text)
    assert state
    mask = Vocabulary(TOKENIZER.get_vocab_size(), BYTES).mask(grammar, state)

    def allowed(token: int) -> bool:
        now = state
        for byte in BYTES(token):
            now = grammar.after(now, byte)
            if grammar.is_free(now):
                return True
        return bool(now) and bool(BYTES(token))

    expected = [token for token in range(RESERVED, TOKENIZER.get_vocab_size()) if allowed(token)]
    found = numpy.frombuffer(mask, numpy.uint8).nonzero()[0].tolist()
    assert [token for token in found if token != TOOL_CALL_END] == expected
    assert (TOOL_CALL_END in found) == grammar.may_end(state)
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
