"""File name patterns: `*`, `?`, `[a-z]`, `{a,b}` and `**`, matched in bounded time.

No regular expression is made of them: a pattern of many stars would send one into exponential backtracking.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from ..action import ToolProblem

MOST_ALTERNATIVES = 64
LONGEST = 1000

_STAR = "*"
_Token = str | re.Pattern[str]


class Pattern:
    """A compiled pattern. One without a slash matches a file of that name at any depth."""

    def __init__(self, text: str) -> None:
        """Raises `ToolProblem` for a pattern that is too long or leaves the directory it is meant for."""
        if len(text) > LONGEST:
            raise ToolProblem("the pattern is too long")
        self.text = text
        self._alternatives = [_compile(one) for one in _braces(text)]

    def matches(self, parts: Sequence[str]) -> bool:
        """Whether the path made of these names matches."""
        return any(_match(segments, parts) for segments in self._alternatives)


_Segment = tuple[_Token, ...] | None
"""The tokens of one name; None is `**`, any number of names."""


def _compile(text: str) -> list[_Segment]:
    names = [name for name in text.split("/") if name not in ("", ".")]
    if ".." in names:
        raise ToolProblem("a pattern cannot contain `..`; give the directory as path")
    if len(names) == 1 and names[0] != "**" and not text.startswith("./"):
        names.insert(0, "**")
    segments: list[_Segment] = []
    for name in names:
        if name != "**":
            segments.append(_tokens(name))
        elif not segments or segments[-1] is not None:
            segments.append(None)
    return segments


@lru_cache(256)
def _tokens(name: str) -> tuple[_Token, ...]:
    tokens: list[_Token] = []
    at = 0
    while at < len(name):
        character = name[at]
        end = name.find("]", at + 2) if character == "[" else -1
        if end > 0:
            tokens.append(_class(name[at + 1 : end]))
            at = end
        elif character == "?":
            tokens.append(re.compile(".", re.DOTALL))
        elif character != "*" or not tokens or tokens[-1] is not _STAR:
            tokens.append(_STAR if character == "*" else character)
        at += 1
    return tuple(tokens)


def _class(inside: str) -> re.Pattern[str]:
    negated = inside[:1] in ("!", "^")
    body = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
    try:
        return re.compile(f"[{'^' if negated else ''}{body}]")
    except re.error as error:
        raise ToolProblem(f"[{inside}] is not a valid set of characters") from error


def _match(segments: Sequence[_Segment], parts: Sequence[str]) -> bool:
    """Both walked once for every pair, however many `**` there are."""
    reached = {0}
    for segment in segments:
        if segment is None:
            reached = set(range(min(reached), len(parts) + 1))
        else:
            reached = {n + 1 for n in reached if n < len(parts) and _match_name(segment, parts[n])}
        if not reached:
            return False
    return len(parts) in reached


def _match_name(tokens: tuple[_Token, ...], name: str) -> bool:
    """The classic walk: after a mismatch go back to the last star only and let it take one more."""
    t = n = 0
    star, resume = -1, 0
    while n < len(name):
        token = tokens[t] if t < len(tokens) else None
        if token is _STAR:
            star, resume = t, n
            t += 1
        elif token is not None and (token.match(name[n]) if isinstance(token, re.Pattern) else token == name[n]):
            t, n = t + 1, n + 1
        elif star >= 0:
            resume += 1
            t, n = star + 1, resume
        else:
            return False
    return all(token is _STAR for token in tokens[t:])


def _braces(text: str) -> list[str]:
    """The pattern for each choice of its `{a,b}`. Unbalanced braces are plain characters."""
    done: list[str] = []
    todo = [text]
    while todo:
        one = todo.pop()
        found = re.search(r"\{([^{}]*,[^{}]*)\}", one)
        if found is None:
            done.append(one)
            continue
        todo.extend(one[: found.start()] + choice + one[found.end() :] for choice in found[1].split(","))
        if len(todo) + len(done) > MOST_ALTERNATIVES:
            raise ToolProblem("the pattern has too many alternatives")
    return done
