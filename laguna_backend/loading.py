"""A checkpoint directory made ready to answer: model, tokenizer, template and defaults together."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from acp_server.model import ModelError, ModelInfo

from .backend import NANO
from .chat.encoding import Chat
from .chat.template import ChatTemplate, TemplateFailure
from .chat.tokenizer import TokenBytes, gguf_tokenizer, load_tokenizer
from .checkpoint.adapter import adapt, read_adapter
from .checkpoint.configuration import read_config, read_json
from .checkpoint.free import free_on
from .checkpoint.gguf_file import gguf_files, gguf_texts
from .checkpoint.hub import is_name, look, pulled
from .checkpoint.kept import load_packed
from .checkpoint.memory import check_room
from .checkpoint.weights import CheckpointError, load_weights
from .engine.engine import Engine, is_memory
from .engine.limits import MIB, Limits
from .engine.request import Rule
from .fields import Fields
from .model.cache import Storage, cache_bytes
from .model.config import ConfigError, LagunaConfig
from .model.device import place, spread
from .model.forward import Laguna, joined
from .model.linear import Packer, Precision
from .speaker import LagunaSpeaker

log = logging.getLogger("laguna")

SHORTEST = 64  # tokens of the shortest conversation there is, about: less memory than for these refuses every request
LEAST_CACHED = 4096  # tokens that caches may hold whatever memory is free
COMPACT_BELOW = 16_384  # tokens of context: less than this is no place for a long system prompt
SAMPLE = "def read(path: str) -> bytes:\n    with open(path) as file:  # the whole file\n        return file.read()\n"


NOT_THERE = "the model's files are not there"


def load(
    directory: Path,
    *,
    device: str | None = None,
    storage: Storage | None = None,
    weights: Precision = "bf16",
    group: int = 32,
    adapter: Path | None = None,
    limits: Limits | None = None,
) -> LagunaSpeaker:
    """Load a checkpoint directory. Raises ModelError, saying which file or field is wrong.

    `weights` other than "bf16" packs them while they come: INT8 by row (CPU), FP8 by blocks (accelerators), INT4 by
    groups of `group`. What was packed is kept (`checkpoint.kept`). `adapter` is the directory of one that was trained
    for this checkpoint.
    What plainly does not fit into the memory there is, is refused before it is read; what may not is a line in the log.
    Without a limit of their own, all caches together take half of the memory that is free when the weights are there.
    """
    try:
        directory = look(found(directory), adapter)
    except ValueError as error:
        raise ModelError(str(error), shown=NOT_THERE) from error
    with told(f"{directory.name} with {adapter.name}" if adapter else directory.name):
        config = read_config(directory)
        tokenizer, template = tokenizer_of(directory), chat_template(directory)
        if max(tokenizer.get_vocab(with_added_tokens=True).values()) >= config.vocab_size:
            raise CheckpointError("tokenizer.json has more tokens than the model")
        rule = default_rule(directory)
        placement = place(device, parameters=parameters(config), weights=weights)
        limits = limits or Limits()
        if limits.cache is not None:
            check_cache(config, limits.cache, storage or "fp8")
        if tight := check_room(config, weights, group, placement.device, placement.dtype):
            log.warning("%s may not fit: %s", directory.name, tight)
        packer = Packer(weights, group, narrow=placement.device.type != "cpu")
        spread(placement, parameters(config))
        loaded = (
            load_weights(directory, config, device=placement.device, dtype=placement.dtype)
            if weights == "bf16"
            else load_packed(directory, config, packer, device=placement.device, dtype=placement.dtype)
        )
        if adapter:
            adapt(loaded.weights, read_adapter(adapter))
        kept: Storage = storage or (
            "fp8" if loaded.cache_scales else "float32" if str(placement.dtype).endswith("32") else "bfloat16"
        )
        if weights != "bf16":
            size, error = loaded.weights.resident() / MIB, loaded.packing_error
            log.info("%s in %s: %.0f MiB, %.2f %% rms error of the weights", directory.name, weights, size, 100 * error)
        spelling = TokenBytes(tokenizer)
        laguna = Laguna(config, joined(loaded.weights))
        if limits.cache is None and (free := free_on(placement.device)):
            limits = replace(limits, cache=max(free // 2, cache_bytes(config, LEAST_CACHED, kept)))
        engine = Engine(laguna, storage=kept, scales=loaded.cache_scales, text_of=spelling, limits=limits)
        info = describe(directory, config, tokenizer)
    if adapter:
        info = replace(info, name=f"{info.name} with {adapter.name}")
    return LagunaSpeaker(info, engine, Chat(template, tokenizer), spelling, rule)


@contextmanager
def told(name: str) -> Generator[None, None, None]:
    """Whatever goes wrong with loading `name` is told as a ModelError."""
    try:
        yield
    except (ConfigError, CheckpointError, TemplateFailure, ValueError, OSError) as error:
        raise ModelError(f"cannot load {name}: {reason_of(error)}", shown=f"cannot load {name}") from error
    except (RuntimeError, MemoryError) as error:
        what = f"not enough memory for {name}" if is_memory(error) else f"cannot load {name}"
        raise ModelError(f"{what}: {reason_of(error)}", shown=what) from error


def reason_of(error: Exception) -> str:
    """The first line of what it says; torch adds a stack to that."""
    return (str(error) or type(error).__name__).splitlines()[0]


def check_cache(config: LagunaConfig, size: int, storage: Storage) -> None:
    """Raises ConfigError for less memory of all caches than any conversation takes."""
    least = cache_bytes(config, min(SHORTEST, config.max_context), storage)
    if size < least:
        raise ConfigError(f"caches may take {size / MIB:.1f} MiB; the shortest conversation needs {least / MIB:.1f}")


def found(directory: Path) -> Path:
    """A directory, or the one where what it names lies: the nano that ships here, or what was pulled from the hub."""
    if directory.is_dir():
        return directory
    if str(directory) == "nano":
        return NANO
    return (pulled(str(directory)) or directory) if is_name(str(directory)) else directory


def gguf_fields(directory: Path, missing: str) -> dict[str, Any]:
    """The tokenizer's fields of a directory's GGUF file, where there is one and the file `missing` is not there."""
    files = [] if (directory / missing).exists() else gguf_files(directory)
    return gguf_texts(files[0]) if files else {}


def tokenizer_of(directory: Path) -> Tokenizer:
    """From `tokenizer.json` or a GGUF file. Raises ValueError."""
    fields = gguf_fields(directory, "tokenizer.json")
    return gguf_tokenizer(fields) if fields else load_tokenizer(directory / "tokenizer.json")


def chat_template(directory: Path) -> ChatTemplate:
    """From `chat_template.jinja` or a GGUF file. Raises TemplateFailure or CheckpointError."""
    written = gguf_fields(directory, "chat_template.jinja").get("tokenizer.chat_template")
    return ChatTemplate(written) if written else ChatTemplate.from_directory(directory)


def describe(directory: Path, config: LagunaConfig, tokenizer: Tokenizer) -> ModelInfo:
    """What the agent is told of the model."""
    tokens = len(tokenizer.encode(SAMPLE, add_special_tokens=False).ids)
    context = config.max_context
    return ModelInfo(
        name_of(directory), context, compact=context < COMPACT_BELOW, bytes_per_token=len(SAMPLE) / max(tokens, 1)
    )


def name_of(directory: Path) -> str:
    """A checkpoint is called after its directory, but for the one in the package and those of the hub."""
    if directory == NANO:
        return "laguna-nano"
    repository = (
        directory.parent.parent.name
    )  # where the hub's library puts a snapshot: models--ORG--NAME/snapshots/SHA
    kept = directory.parent.name == "snapshots" and repository.startswith("models--")
    return repository.removeprefix("models--").replace("--", "/", 1) if kept else directory.name


def default_rule(directory: Path) -> Rule:
    """Sampling as `generation_config.json` has it; what is absent or null there is what poolside recommends for XS.2.

    Raises ConfigError.
    """
    path = directory / "generation_config.json"
    raw = Fields(read_json(path) if path.exists() else {}, f"{path.name}: ")
    if raw.get("do_sample") is False:
        return Rule(temperature=0.0)
    return Rule(
        temperature=raw.number("temperature", 0.7, least=0),
        top_k=raw.integer("top_k", 20, least=0),
        top_p=raw.number("top_p", 1.0, least=0),
        min_p=raw.number("min_p", 0.0, least=0),
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
    return total
