"""What the engine is asked, and what it answers: values and small contracts, without torch.

A `Request` is a prompt in tokens and how to go on from it. The engine answers with one `Step` a token and then one
`Finish`. A `Constraint` takes part in the choice: before each token it is asked what may come, and after each it is
told what came. It never has to take anything back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

MOST_ALTERNATIVES = 20
"""of a token that a request may ask to be told"""


class Refusal(Exception):
    """The engine cannot answer a request. The message is for the user; every other request goes on."""


class ContextOverflow(Refusal, ValueError):
    """The prompt is empty, or leaves no room in the model's context."""


class UnknownToken(Refusal, ValueError):
    """The prompt has a token that is none of the model's."""


class Busy(Refusal):
    """As many requests wait as may wait."""


class CacheFull(Refusal):
    """The caches may take no more memory, and none that is idle is left to be given up."""


class NothingAllowed(Refusal):
    """The constraints of a request leave no token to go on with."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How to choose. Temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 leave everything in.

    With a seed the n-th token is the same whenever the distributions are: what else runs does not matter.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, ok in (
            ("temperature", self.temperature >= 0),
            ("top_k", self.top_k >= 0),
            ("top_p", 0 < self.top_p <= 1),
            ("min_p", 0 <= self.min_p < 1),
        ):
            if not ok:
                raise ValueError(f"{name} is {getattr(self, name)}")


# What takes part in the choice ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forced:
    """These tokens come next, in this order. They are run through the model together, none of them is drawn."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Allowed:
    """The next token is one of these: one byte for each id, not zero where it may come. Ids beyond its end may not."""

    mask: bytes | bytearray

    @classmethod
    def only(cls, *tokens: int) -> Allowed:
        mask = bytearray(max(tokens, default=-1) + 1)
        for token in tokens:
            mask[token] = 1
        return cls(mask)


class Constraint(Protocol):
    """What may come next, one token after the other. Belongs to one request."""

    def next(self) -> Forced | Allowed | None:
        """What may come next; None: anything. Asked once before each token, and once more after those it forced."""
        ...

    def take(self, token: int) -> None:
        """This token came, whoever chose it. Never called for those of the prompt."""
        ...


# What is asked -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A sequence to go on with. Raises ValueError for what makes no sense.

    It ends with one of the model's own stop tokens, of `stop_ids` or of the texts `stop`, with `max_tokens` of them,
    or where the context ends. `logprobs` is how many alternatives to tell of each token, None: not even its own.
    `session` says whose it is: a past of the same session is cut back where the prompt leaves it, another's is copied.
    `marks` are lengths at which other prompts may leave this one, such as the end of a system prompt. `barred` tokens
    are never drawn; they can be forced.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    rule: Rule = Rule()
    stop_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    constraints: tuple[Constraint, ...] = ()
    barred: tuple[int, ...] = ()
    session: str | None = None
    marks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}")
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_ALTERNATIVES:
            raise ValueError(f"logprobs is {self.logprobs}; it is at most {MOST_ALTERNATIVES}")
        if not all(self.stop):
            raise ValueError("a text to stop at is empty")


@dataclass(frozen=True, slots=True)
class Extras:
    """What may be asked of one step besides what an agent asks; see `Request`.

    With `must_call` the answer, after its thoughts, begins with a call, and with `one_call` the first call ends it.
    """

    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    logprobs: int | None = None
    constraints: tuple[Constraint, ...] = ()
    session: str | None = None
    must_call: bool = False
    one_call: bool = False


# What is answered ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One token. `text` is what it adds to the output, in bytes: a part of a character, or nothing, as it comes.

    A token that may be the beginning of a text to stop at is held back; `cut` says that its text was, at the end.
    `logprob` is of the model's own distribution, before temperature and filters; `top` has the most likely tokens.
    Neither is known of a `forced` token.
    """

    token: int
    text: bytes = b""
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    forced: bool = False
    cut: bool = False


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Finish:
    """It is over, and what it took. `by` is the token or the text that stopped it.

    `cached` of the `prompt` tokens needed no work. Of the `generated` ones, `guessed` were confirmed guesses. Seconds
    are wall time: waiting for a turn counts as neither.
    """

    reason: FinishReason
    by: int | str | None = None
    prompt: int = 0
    cached: int = 0
    generated: int = 0
    guessed: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
