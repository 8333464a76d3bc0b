"""What a request asks, field by field. What would change the answer and cannot be done is refused by its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acp_server.model import Message, Sampling, ToolSpec

from ..chat.openai import ConversationError, read_messages, read_tools
from ..engine.request import MOST_ALTERNATIVES, Extras
from .refused import Refused

MOST_STOPS, LONGEST_STOP = 16, 256
MOST_PROMPTS = 16

Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]
Alternatives = Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)]


class StreamOptions(BaseModel):
    include_usage: bool = False


class TemplateOptions(BaseModel):
    """`chat_template_kwargs` as vLLM and SGLang have them."""

    model_config = ConfigDict(extra="forbid")
    enable_thinking: bool | None = None


class Asked(BaseModel):
    """What the two kinds of completion have in common. Null is as good as absent."""

    model: str | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    stop_token_ids: Annotated[list[int], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=256)] | None = None
    # Taken only where they ask for nothing.
    n: Literal[1] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    def sampling(self, principal: str) -> Sampling:
        key = self.prompt_cache_key or self.user
        return Sampling(
            temperature=self.temperature,
            top_k=None if self.top_k is None else max(self.top_k, 0),
            top_p=self.top_p,
            min_p=self.min_p,
            seed=self.seed,
            max_tokens=self.max_tokens,
            session=json.dumps([principal, key]) if key else None,
        )

    def extras(self, logprobs: int | None) -> Extras:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Extras(stop=stop, stop_ids=frozenset(self.stop_token_ids or ()), logprobs=logprobs)

    @property
    def tells_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class NamedFunction(BaseModel):
    name: str


class NamedTool(BaseModel):
    type: Literal["function"] = "function"
    function: NamedFunction


class TextOnly(BaseModel):
    """`response_format`: no other is kept to."""

    type: Literal["text"]


class ChatAsked(Asked):
    """`POST /v1/chat/completions`. Messages and tools are read apart (`laguna_backend.chat.openai`)."""

    messages: Annotated[list[Any], Field(min_length=1)]
    tools: list[Any] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    thinking_budget: Annotated[int, Field(ge=0)] | None = None
    chat_template_kwargs: TemplateOptions | None = None
    response_format: TextOnly | None = None

    def conversation(self) -> list[Message]:
        """Raises Refused."""
        try:
            return read_messages(self.messages)
        except ConversationError as error:
            raise Refused(400, str(error), param="messages") from error

    def offered(self) -> list[ToolSpec]:
        """The tools that may be called. Raises Refused."""
        try:
            tools = read_tools(self.tools)
        except ConversationError as error:
            raise Refused(400, str(error), param="tools") from error
        if self.tool_choice == "none":
            return []
        if isinstance(self.tool_choice, NamedTool):
            name = self.tool_choice.function.name
            tools = [tool for tool in tools if tool.name == name]
        if self.must_call and not tools:
            raise Refused(400, "tool_choice asks for a call of a tool that is not among the tools", param="tool_choice")
        return tools

    @property
    def must_call(self) -> bool:
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)

    @property
    def thinking(self) -> bool | None:
        """Whether to think; None: as the model does by itself."""
        told = self.chat_template_kwargs.enable_thinking if self.chat_template_kwargs else None
        if told is not None or self.reasoning_effort is None:
            return told
        return self.reasoning_effort != "none"

    @property
    def alternatives(self) -> int | None:
        """Log-probabilities of how many other tokens to tell; None: not even a token's own."""
        return (self.top_logprobs or 0) if self.logprobs else None


class TextAsked(Asked):
    """`POST /v1/completions`: texts or tokens to go on with."""

    prompt: str | list[int] | Annotated[list[str] | list[list[int]], Field(min_length=1, max_length=MOST_PROMPTS)]
    logprobs: Alternatives | None = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None
    best_of: Literal[1] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [cast("list[int]", self.prompt)]
        return cast("list[str | list[int]]", self.prompt)

    def check_tokens(self, vocabulary: int) -> None:
        """Raises Refused for a prompt without tokens, or with one that the model has not."""
        for prompt in self.prompts or [[]]:
            if not isinstance(prompt, str) and not (prompt and all(0 <= token < vocabulary for token in prompt)):
                raise Refused(400, f"prompt: tokens are from 0 to {vocabulary - 1}, at least one", param="prompt")


A = TypeVar("A", bound=Asked)


def read(kind: type[A], body: bytes) -> A:
    """A request's body. Raises Refused, which names the field."""
    try:
        raw: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(raw, Mapping):
        raise Refused(400, "the body is not a JSON object")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        names = [str(part) for part in first["loc"]]
        raise Refused(400, f"{'.'.join(names)}: {first['msg']}", param=names[0] if names else None) from None
