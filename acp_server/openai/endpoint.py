"""Where an OpenAI-compatible endpoint is and how patient to be with it, from options as a command line has them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

from acp.transports.websocket_opening import is_loopback

Thinking = Literal["template", "effort", "none"]
"""How an endpoint is told whether to think: `chat_template_kwargs`, `reasoning_effort`, or not at all."""

LONGEST_KEY = 2**16  # characters


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint's base URL, such as `http://127.0.0.1:8000/v1`, and what to say there.

    `headers` go with every request. `first` is how many seconds it may take until the first token, `silence` how many
    between two reads after it.
    """

    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    context: int | None = None
    thinking: Thinking | None = None
    first: float = 600.0
    silence: float = 120.0
    connect: float = 10.0
    retries: int = 4

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url is not http://… or https://…")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("base_url is only scheme, host, port and path; give the key by api_key_env")
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @property
    def root(self) -> str:
        """The server's own URL: the base URL without `/v1`."""
        return self.url.removesuffix("/v1")

    @property
    def is_local(self) -> bool:
        return is_loopback(urlsplit(self.url).hostname or "")


def endpoint_of(
    environment: Mapping[str, str] | None = None,
    /,
    *,
    base_url: str | None = None,
    model: str | None = None,
    api_key_env: str | None = None,
    api_key_file: str | None = None,
    insecure: str | None = None,
    context: str | None = None,
    thinking: str | None = None,
    first: str | None = None,
    silence: str | None = None,
    retries: str | None = None,
) -> Endpoint:
    """The endpoint that the options say. Raises ValueError, never with a key in it.

    Without `base_url`, that and the key are taken from POOLSIDE_STANDALONE_BASE_URL and POOLSIDE_API_KEY, so that what
    is set up for `pool` works here too.
    """
    known = os.environ if environment is None else environment
    if base_url is None:
        base_url, key = known.get("POOLSIDE_STANDALONE_BASE_URL"), known.get("POOLSIDE_API_KEY")
        if base_url is None:
            raise ValueError("base_url is missing, such as http://127.0.0.1:8000/v1")
    else:
        key = None
    if api_key_env is not None and api_key_file is not None:
        raise ValueError("give api_key_env or api_key_file, not both")
    if api_key_env is not None:
        if not (key := known.get(api_key_env, "").strip()):
            raise ValueError(f"the environment variable {api_key_env} is empty or not set")
    elif api_key_file is not None:
        key = _key_in(api_key_file)
    if thinking is not None and thinking not in get_args(Thinking):
        raise ValueError(f"thinking is {thinking!r}; it is one of {', '.join(get_args(Thinking))}")
    made = Endpoint(
        base_url,
        model,
        key or None,
        {},
        None if context is None else int(_number("context", context, least=256)),
        cast("Thinking | None", thinking),
        _number("first", first or "600"),
        _number("silence", silence or "120"),
        retries=int(_number("retries", retries or "4", least=0, most=20)),
    )
    if key and not key.isascii():
        raise ValueError("the key has characters that no header can have")
    clear = base_url.startswith("http:") and not made.is_local
    if key and clear and insecure != "true":
        raise ValueError("the key would go to another machine in the clear: use https://, or say insecure=true")
    return made


def _key_in(path: str) -> str:
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            words = file.read(LONGEST_KEY).split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"api_key_file: {error}") from None
    if len(words) != 1:
        raise ValueError("api_key_file: the file does not hold one key")
    return words[0]


def _number(name: str, text: str, *, least: float = 0.001, most: float = 1e7) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= most:
        raise ValueError(f"{name} is {text!r}, not a number of {least:g} to {most:g}")
    return value
