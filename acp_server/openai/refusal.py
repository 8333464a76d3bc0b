"""What an endpoint answers instead of an answer, in words for the user: every server has wordings of its own."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from ..model import ModelError, TooLong
from ..wording import visible
from .endpoint import Endpoint

LONGEST_WORDS = 400  # characters of a server's own message
LARGEST_BODY = 2**16  # bytes of an error that are read
LONGEST_PAUSE = 120.0  # seconds of a Retry-After that are waited

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 529})

TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|maximum (?:context|sequence|input|prompt)|too many (?:input )?tokens"
    r"|(?:prompt|input|request)s? (?:is )?(?:too long|exceeds?)|reduce the length|longer than the (?:model|context)",
    re.I,
)
LIMIT = re.compile(
    r"(?:context[ _](?:length|window|size)|maximum (?:length|tokens)|n_ctx|limit)\D{0,24}?(\d[\d,]{2,})", re.IGNORECASE
)
NO_MONEY = re.compile(r"insufficient_quota|billing|credit balance|exceeded your current quota", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is none. `words` are the server's, made safe to show and without the key."""

    status: int
    words: str
    after: float | None = None

    @property
    def is_too_long(self) -> bool:
        """The conversation does not fit the model's context."""
        return self.status in (0, 400, 413, 422, 500) and TOO_LONG.search(self.words) is not None

    @property
    def limit(self) -> int | None:
        """Tokens of context that the refusal names."""
        found = LIMIT.search(self.words) if self.is_too_long else None
        return int(found[1].replace(",", "")) if found else None

    @property
    def is_passing(self) -> bool:
        """Asking again may help."""
        return self.status in RETRIED and not self.is_too_long and not NO_MONEY.search(self.words)

    def error(self, endpoint: Endpoint, model: str) -> ModelError:
        kind = TooLong if self.is_too_long else ModelError
        sentence = self._sentence(endpoint, model)
        whole = sentence + (f": {self.words}" if self.words else "")
        return kind(whole, shown=sentence if 300 <= self.status < 400 else whole)  # those words are an address

    def _sentence(self, endpoint: Endpoint, model: str) -> str:
        if self.is_too_long:
            return f"the conversation is too long for {model}"
        match self.status:
            case 401 | 403 if endpoint.key is None:
                return f"{endpoint.url} wants a key ({self.status}); name the variable that has it by api_key_env"
            case 401 | 403:
                return f"{endpoint.url} refuses the key ({self.status})"
            case 404 if "model" in self.words.lower():
                return f"{endpoint.url} has no model {model}"
            case 404 | 405:
                return f"{endpoint.url} has no chat/completions ({self.status}); base_url usually ends in /v1"
            case 429 if NO_MONEY.search(self.words):
                return f"the account at {endpoint.url} has no quota left"
            case 429:
                return f"{endpoint.url} is too busy (429)"
            case status if 300 <= status < 400:
                return f"{endpoint.url} points elsewhere ({status}); give that address as base_url"
            case 0:
                return "the endpoint failed while it answered"
            case status:
                return f"{endpoint.url} answered {status}"


def refusal_of(status: int, headers: Mapping[str, str], body: bytes, endpoint: Endpoint) -> Refusal:
    """What a status, its headers (names in lower case) and a body say."""
    text = body[:LARGEST_BODY].decode("utf-8", "replace")
    if "location" in headers and 300 <= status < 400:
        text = headers["location"].partition("?")[0]
    elif text.lstrip()[:1] == "<":
        text = ""  # a page of some proxy
    else:
        with suppress(ValueError, RecursionError):
            text = words_of(json.loads(text))
    return Refusal(status, shown(text, endpoint), _after(headers.get("retry-after", "")))


def words_of(value: Any) -> str:
    """The message in an error object, whatever shape the server gives it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(words_of, cast("list[Any]", value)[:3])))
    if not isinstance(value, Mapping):
        return ""
    fields = cast("Mapping[str, Any]", value)
    for name in ("error", "message", "detail", "msg"):
        if fields.get(name) and (words := words_of(fields[name])):
            # Types and numbers beside a message say what its words may not.
            more = [
                f"{key} {fields[key]}"
                for key in ("code", "type", "n_ctx", "loc")
                if isinstance(fields.get(key), str | int | list) and str(fields[key]) not in words
            ]
            return f"{words} ({', '.join(more)})" if more and name in ("message", "msg") else words
    return ""


def shown(text: str, endpoint: Endpoint) -> str:
    """A server's text made fit to be shown: one line, not long, and never with the key in it."""
    if endpoint.key:
        text = text.replace(endpoint.key, "[key]")
    line = visible(" ".join(text[: 4 * LONGEST_WORDS].split()))
    return line if len(line) <= LONGEST_WORDS else line[: LONGEST_WORDS - 1] + "…"


def _after(text: str) -> float | None:
    """Seconds that a Retry-After asks for: a number, or a date."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_PAUSE) if seconds == seconds else None
