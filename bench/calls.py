"""What the grammar of tool calls costs and saves: `python bench/calls.py [--vocabulary N] [--json FILE]`.

The agent's own tools, and tools with nested arguments and bounds, called as a model would call them: how many tokens of
a call need not be drawn, and how long a step takes that has to find out which tokens may come: the first time in a
place, and then. The vocabulary has the size and the rules of XS.2's, whose own is not at hand: it is trained here, on
the sources of Python's library.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, trainers
from wire import conditions, show

from acp_server.model import ToolSpec
from laguna_backend.chat.constrained import CallGrammars
from laguna_backend.chat.grammar import Spelling
from laguna_backend.chat.tokenizer import RESERVED, TOOL_CALL, TOOL_CALL_END, TokenBytes, build_tokenizer
from laguna_backend.engine.request import Forced

Calls = list[tuple[str, dict[str, Any]]]

PLAIN: Calls = [
    ("read", {"path": "src/shop/prices.py"}),
    ("read", {"path": "README.md", "offset": 120, "limit": 80}),
    ("grep", {"pattern": r"def \w+_price", "path": "src"}),
    ("glob", {"pattern": "**/*.py"}),
    ("edit", {"path": "src/shop/prices.py", "old": "return price", "new": "return round(price, 2)"}),
    ("shell", {"command": "python -m pytest -q tests", "timeout": 60}),
    ("write", {"path": "notes.txt", "content": "One line.\nAnother line, a little longer.\n" * 4}),
]
NESTED: Calls = [
    (
        "edit_all",
        {
            "edits": [
                {
                    "path": "src/shop/prices.py",
                    "old": "def price():\n    return 1",
                    "new": 'def price():\n    return "2"',
                },
                {"path": "src/shop/tax.py", "old": "RATE = 0.19", "new": "RATE = 0.2", "all": True},
            ]
        },
    ),
    (
        "plan",
        {
            "title": "Raise the prices",
            "entries": [
                {"content": "Find where prices are computed", "status": "completed", "hours": 0.5},
                {"content": "Round them to cents", "status": "pending", "priority": 2, "after": ["find", "read"]},
            ],
        },
    ),
    ("notify", {"message": {"kind": "mail", "to": ["ann@example.org"], "subject": "Prices", "lines": 12}}),
]
TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
EDIT = {"path": {"type": "string", "minLength": 1, "maxLength": 256}, "old": TEXT, "new": TEXT, "all": FLAG}
ENTRY = {
    "content": {"type": "string", "maxLength": 200},
    "status": {"$ref": "#/$defs/status"},
    "priority": {"type": "integer", "minimum": 1, "maximum": 5},
    "hours": {"type": "number", "minimum": 0},
    "after": {"type": "array", "items": TEXT, "maxItems": 8},
}
MAIL = {
    "kind": {"const": "mail"},
    "to": {"type": "array", "items": {"type": "string", "pattern": r"^[^@\s]+@[^@\s]+$"}, "minItems": 1},
    "subject": {"type": ["string", "null"], "maxLength": 80},
    "lines": COUNT,
}


def an_object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def plain_tools() -> list[ToolSpec]:
    """Of the plain calls: each with the arguments that occur, the first of them required."""
    kinds = {str: "string", int: "integer"}
    seen: dict[str, dict[str, Any]] = {}
    for name, arguments in PLAIN:
        seen.setdefault(name, {}).update({key: {"type": kinds[type(value)]} for key, value in arguments.items()})
    return [
        ToolSpec(name, "", {"type": "object", "properties": known, "required": [next(iter(known))]})
        for name, known in seen.items()
    ]


def nested_tools() -> list[ToolSpec]:
    edits = {"type": "array", "items": an_object(EDIT, "path", "old", "new"), "minItems": 1, "maxItems": 50}
    entries = {"type": "array", "items": an_object(ENTRY, "content", "status")}
    title = {"type": "string", "minLength": 3, "maxLength": 60}
    status = {"$defs": {"status": {"enum": ["pending", "in_progress", "completed"]}}}
    ping = an_object({"kind": {"const": "ping"}}, "kind")
    return [
        ToolSpec("edit_all", "", an_object({"edits": edits}, "edits")),
        ToolSpec("plan", "", an_object({"title": title, "entries": entries}, "title", "entries") | status),
        ToolSpec("notify", "", an_object({"message": {"oneOf": [an_object(MAIL, *MAIL), ping]}}, "message")),
    ]


def spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def trained(size: int) -> Tokenizer:
    rules = build_tokenizer([])
    names = [rules.id_to_token(index) or "" for index in range(RESERVED)]
    tokenizer = Tokenizer(type(rules.model)())
    tokenizer.pre_tokenizer, tokenizer.decoder = rules.pre_tokenizer, rules.decoder
    alphabet = [rules.id_to_token(RESERVED + byte) or "" for byte in range(256)]
    special: Any = [AddedToken(name, special=False, normalized=False) for name in names]
    trainer = trainers.BpeTrainer(  # pyright: ignore[reportCallIssue]
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("**/*.py"))
    tokenizer.train_from_iterator((path.read_text(errors="replace") for path in paths), trainer)
    return tokenizer


def run(grammars: CallGrammars, tools: list[ToolSpec], written: list[list[int]]) -> Iterator[tuple[bool, float]]:
    """Of each token whether it was drawn, and of those the milliseconds to know which may come."""
    for ids in written:
        calls = grammars.of(tools)
        calls.take(TOOL_CALL)
        at = 0
        while at < len(ids):
            began = time.perf_counter()
            answer = calls.next()
            spent = (time.perf_counter() - began) * 1e3
            coming = answer.tokens if isinstance(answer, Forced) else (ids[at],)
            assert coming == tuple(ids[at : at + len(coming)]), "the grammar would write another call"
            for token in coming:
                calls.take(token)
                yield isinstance(answer, Forced), spent
            at += len(coming)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=100_352, help="tokens (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="append the results to a file, one JSON object a line")
    options = parser.parse_args()
    told = conditions()
    tokenizer = trained(options.vocabulary)
    size = tokenizer.get_vocab_size()
    rows: list[dict[str, str]] = []
    for name, gap in (("XS.2, newlines between", "\n"), ("S-2.1, nothing between", "")):
        began = time.perf_counter()
        grammars = CallGrammars(
            Spelling(gap, gap, gap, gap, gap),
            size,
            lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
            TokenBytes(tokenizer),
        )
        made = (time.perf_counter() - began) * 1e3
        for kind, tools, calls in (("plain", plain_tools(), PLAIN), ("nested", nested_tools(), NESTED)):
            written: list[list[int]] = []
            for called, arguments in calls:
                pairs = [
                    f"<arg_key>{key}</arg_key>{gap}<arg_value>{spelled(value)}</arg_value>"
                    for key, value in arguments.items()
                ]
                body = gap.join([called, *pairs]) + gap
                written.append([*tokenizer.encode(body, add_special_tokens=False).ids, TOOL_CALL_END])
            first, again = list(run(grammars, tools, written)), list(run(grammars, tools, written))
            drawn = [spent for forced, spent in first if not forced]
            rows.append(
                {
                    "spelling": f"{name}: {kind}",
                    "tokens": f"{len(first)}",
                    "forced": f"{sum(forced for forced, _ in first) / len(first):.0%}",
                    "ms a drawn token: first time": f"{statistics.mean(drawn):.2f}",
                    "most": f"{max(drawn):.1f}",
                    "then": f"{statistics.mean(spent for forced, spent in again if not forced):.3f}",
                    "ms a forced token": f"{statistics.mean(spent for forced, spent in again if forced):.3f}",
                    "once, ms": f"{made:.0f}",
                }
            )
    show(f"Calls under the grammar, {size:,} tokens in the vocabulary", rows, told, [], options.json, rows)


if __name__ == "__main__":
    main()
