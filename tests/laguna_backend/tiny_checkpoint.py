"""A Laguna of a few thousand random parameters, as a checkpoint directory, with a tokenizer built like the released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from acp_server.model import ToolSpec
from laguna_backend.chat.tokenizer import build_tokenizer
from laguna_backend.checkpoint.weights import save_checkpoint
from laguna_backend.model.config import LagunaConfig
from laguna_backend.model.forward import random_weights

FULL, SLIDING = "full_attention", "sliding_attention"

COMPACT = """\
{{- "〈|EOS|〉" -}}
{%- set enable_thinking = enable_thinking | default(true) -%}
{%- if messages[0].role == "system" or tools -%}
  {{- "<system>" -}}
  {%- if messages[0].role == "system" -%}{{- messages[0].content.rstrip() -}}{%- endif -%}
  {%- if tools -%}
    {{- "<available_tools>\\n" -}}
    {%- for tool in tools -%}{{- (tool | tojson) + "\\n" -}}{%- endfor -%}
    {{- "</available_tools>" -}}
  {%- endif -%}
  {{- "</system>\\n" -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role == "user" -%}
    {{- "<user>" + message.content + "</user>\\n" -}}
  {%- elif message.role == "assistant" -%}
    {%- generation -%}
    {{- "<assistant>" + ("<think>" + (message.reasoning or "") + "</think>" if enable_thinking else "</think>") -}}
    {{- message.content -}}
    {%- for call in message.tool_calls or [] -%}
      {{- "<tool_call>" + call.function.name -}}
      {%- for key, value in call.function.arguments.items() -%}
        {{- "<arg_key>" ~ key ~ "</arg_key><arg_value>" ~ (value if value is string else value | tojson) -}}
        {{- "</arg_value>" -}}
      {%- endfor -%}
      {{- "</tool_call>" -}}
    {%- endfor -%}
    {{- "</assistant>\\n" -}}
    {%- endgeneration -%}
  {%- elif message.role == "tool" -%}
    {{- "<tool_response>" + message.content + "</tool_response>\\n" -}}
  {%- elif not loop.first -%}
    {{- "<system>" + message.content + "</system>\\n" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<assistant>" + ("<think>" if enable_thinking else "</think>") -}}{%- endif -%}
"""

WORDS = "system user tool response arg key value available name path read"


def merges() -> list[tuple[str, str]]:
    """Merges that make one token of each word, as 100,000 real ones do, and of `</` and `>` with a newline."""
    found: list[tuple[str, str]] = []
    for word in WORDS.split():
        for end in range(1, len(word)):
            pair = (word[:end], word[end])
            if pair not in found:
                found.append(pair)
    return [*found, ("<", "/"), (">", "Ċ"), ("Ġ", "Ġ")]


def tiny_tokenizer() -> Tokenizer:
    return build_tokenizer(merges())


def tiny_config(**changed: Any) -> dict[str, Any]:
    return {
        "model_type": "laguna",
        "vocab_size": tiny_tokenizer().get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "num_attention_heads_per_layer": [3, 5, 3],
        "num_key_value_heads": 1,
        "head_dim": 8,
        "layer_types": [FULL, SLIDING, FULL],
        "mlp_layer_types": ["dense", "sparse", "sparse"],
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "moe_routed_scaling_factor": 2.5,
        "sliding_window": 16,
        "max_position_embeddings": 1024,
        "rope_parameters": {
            FULL: {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5},
            SLIDING: {"rope_type": "default", "rope_theta": 1e4},
        },
        "bos_token_id": 2,
        "eos_token_id": [2, 24],
        "dtype": "float32",
    } | changed


def write_checkpoint(directory: Path, *, seed: int = 0, template: str = COMPACT, **changed: Any) -> Path:
    """A whole checkpoint directory; `changed` are fields of its configuration."""
    raw = tiny_config(**changed)
    save_checkpoint(random_weights(LagunaConfig.from_dict(raw), seed=seed), directory, dtype=torch.float32)
    (directory / "config.json").write_text(json.dumps(raw))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 24], "do_sample": False}))
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    tiny_tokenizer().save(str(directory / "tokenizer.json"))
    return directory


READ = ToolSpec(
    "read",
    "Read a file",
    {
        "type": "object",
        "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["path"],
    },
)
