"""A checkpoint directory made ready to answer: model, tokenizer, template and defaults together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acp_server.model import Message, ModelError, Part, Sampling, Stop, Thought, ToolSpec, Usage

from .cache import Storage
from .chat import Chat
from .config import ConfigError, LagunaConfig, read_json
from .device import place
from .engine import Cancelled, ContextOverflow, Engine, Stats
from .model import Laguna
from .parser import ReplyParser
from .sampler import Rule
from .template import ChatTemplate, TemplateFailure
from .tokenizer import TokenBytes, load_tokenizer
from .weights import CheckpointError, load_weights

DEFAULT_MAX_TOKENS = 8192


@dataclass
class Speaker:
    """Speaks with one loaded Laguna. Owned by one thread."""

    engine: Engine
    chat: Chat
    token_bytes: TokenBytes
    rule: Rule
    steps: int = 0

    def say(
        self,
        conversation: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        cancelled: Any,
    ) -> Iterator[Part]:
        """The parts of one step, ending with `Stop`. Raises ModelError, and Cancelled when asked to stop."""
        thinking = sampling.thinking is not False
        stats = Stats()
        self.steps += 1
        step = f"step{self.steps}"
        names = (f"{step}.{number}" for number in range(1, 1_000_000))
        parser = ReplyParser(self.token_bytes, tools, lambda: next(names), thinking=thinking)
        thought_tokens = 0
        try:
            prompt = self.chat.encode(conversation, tools, thinking=thinking)
            limit = sampling.max_tokens or DEFAULT_MAX_TOKENS
            rule = chosen(self.rule, sampling)
            for token in self.engine.generate(prompt, rule, max_tokens=limit, stats=stats, cancelled=cancelled):
                parts = parser.feed(token)
                thought_tokens += any(isinstance(part, Thought) for part in parts)
                yield from parts
                if parser.done:
                    break
            yield from parser.finish()
        except Cancelled:
            raise
        except (ContextOverflow, TemplateFailure, FloatingPointError) as error:
            raise ModelError(str(error)) from error
        except RuntimeError as error:  # torch says so of everything, out of memory included
            self.engine.forget()
            raise ModelError(f"the model failed: {str(error).splitlines()[0]}") from error
        usage = Usage(stats.prompt, stats.reused, stats.generated, thought_tokens)
        reason = "max_tokens" if stats.stopped == "length" else "tool_use" if parser.tool_uses else "end_turn"
        yield Stop(reason, usage, stats.prefill_seconds + stats.decode_seconds, step)


def chosen(default: Rule, sampling: Sampling) -> Rule:
    """The model's own rule with what the caller set."""
    given = {
        name: value
        for name in ("temperature", "top_k", "top_p", "min_p", "seed")
        if (value := getattr(sampling, name)) is not None
    }
    try:
        return replace(default, **given)
    except ValueError as error:
        raise ModelError(f"sampling: {error}") from error


def load(directory: Path, *, device: str | None = None, storage: Storage | None = None) -> Speaker:
    """Load a checkpoint directory. Raises ModelError, saying which file or field is wrong."""
    if not directory.is_dir():
        raise ModelError(f"there is no checkpoint directory {directory}")
    try:
        config = LagunaConfig.from_directory(directory)
        tokenizer = load_tokenizer(directory / "tokenizer.json")
        template = ChatTemplate.from_directory(directory)
        rule = default_rule(directory)
        placement = place(device, parameters=parameters(config))
        loaded = load_weights(directory, config, device=placement.device, dtype=placement.dtype)
    except (ConfigError, CheckpointError, TemplateFailure, ValueError) as error:
        raise ModelError(f"cannot load {directory.name}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        raise ModelError(f"not enough memory for {directory.name}: {str(error).splitlines()[0]}") from error
    if tokenizer.get_vocab_size(with_added_tokens=True) > config.vocab_size:
        raise ModelError(f"cannot load {directory.name}: tokenizer.json has more tokens than the model")
    kept: Storage = storage or (
        "fp8" if loaded.cache_scales else "float32" if str(placement.dtype).endswith("32") else "bfloat16"
    )
    engine = Engine(Laguna(config, loaded.weights), storage=kept, scales=loaded.cache_scales)
    return Speaker(engine, Chat(template, tokenizer), TokenBytes(tokenizer), rule)


def default_rule(directory: Path) -> Rule:
    """Sampling as `generation_config.json` has it; without one, what poolside recommends for XS.2."""
    path = directory / "generation_config.json"
    raw = read_json(path) if path.exists() else {}
    if raw.get("do_sample") is False:
        return Rule(temperature=0.0)
    return Rule(
        temperature=float(raw.get("temperature", 0.7)),
        top_k=int(raw.get("top_k", 20)),
        top_p=float(raw.get("top_p", 1.0)),
        min_p=float(raw.get("min_p") or 0.0),
    )


def parameters(config: LagunaConfig) -> int:
    """Number of parameters, with a gate for each head."""
    hidden, dim = config.hidden_size, config.head_dim
    total = 2 * config.vocab_size * hidden + hidden
    for layer in config.layers:
        gate = layer.heads * (dim if config.per_element_gate else 1)
        total += hidden * (2 * layer.heads * dim + 2 * config.kv_heads * dim + gate) + 2 * hidden + 2 * dim
        if layer.sparse:
            total += config.experts * (3 * hidden * config.expert_size + hidden + 1)
            total += 3 * hidden * config.shared_expert_size
        else:
            total += 3 * hidden * config.intermediate_size
    return math.floor(total)
