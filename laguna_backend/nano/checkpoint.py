"""Write a training run's weights as a checkpoint directory in the released layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..checkpoint.weights import save_checkpoint
from ..model.forward import Weights

# The grammar is S-2.1's compact one. Nano was trained on one request at a time, without a system text and with one set
# of tools, so its template shows it just that: everything from the last thing the user said, and the beginning of each
# tool's result, up to the first remark in brackets (`transcript.shown`).
TEMPLATE = """\
{{- "〈|EOS|〉" -}}
{%- set enable_thinking = enable_thinking | default(true) -%}
{%- set last = namespace(user=0) -%}
{%- for message in messages -%}
  {%- if message.role == "user" -%}{%- set last.user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages[last.user:] -%}
  {%- set content = message.content if message.content is string else "" -%}
  {%- if message.role == "user" -%}
    {{- "<user>" + content + "</user>\\n" -}}
  {%- elif message.role == "assistant" -%}
    {%- generation -%}
      {{- "<assistant>" -}}
      {%- if enable_thinking -%}
        {{- "<think>" + (message.reasoning or "") + "</think>" -}}
      {%- else -%}
        {{- "</think>" -}}
      {%- endif -%}
      {{- content -}}
      {%- for call in message.tool_calls or [] -%}
        {{- "<tool_call>" + call.function.name -}}
        {%- for key, value in call.function.arguments.items() -%}
          {{- "<arg_key>" ~ key ~ "</arg_key>" -}}
          {{- "<arg_value>" ~ (value if value is string else value | tojson) ~ "</arg_value>" -}}
        {%- endfor -%}
        {{- "</tool_call>" -}}
      {%- endfor -%}
      {{- "</assistant>\\n" -}}
    {%- endgeneration -%}
  {%- elif message.role == "tool" -%}
    {{- "<tool_response>" + content[:240].split("\\n[")[0].rstrip() + "</tool_response>\\n" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- "<assistant>" + ("<think>" if enable_thinking else "</think>") -}}
{%- endif -%}
"""

GENERATION: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": [2, 24], "pad_token_id": 9, "do_sample": False}
TOKENIZER_CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "〈|EOS|〉",
    "eos_token": "〈|EOS|〉",
    "pad_token": "〈|PAD|〉",
    "unk_token": "〈|UNK|〉",
    "model_max_length": 8192,
    "chat_template": "{% include 'chat_template.jinja' %}",
}


def export(weights: Weights, config: dict[str, Any], tokenizer: Tokenizer, directory: Path) -> None:
    """Write every file of a checkpoint but the model card."""
    save_checkpoint(weights, directory)
    for name, value in (
        ("config.json", config),
        ("generation_config.json", GENERATION),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
    ):
        (directory / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (directory / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    tokenizer.save(str(directory / "tokenizer.json"))
