"""The checkpoint that ships: small, complete, in the released layout, and able."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer

from acp_server.model import Message, Sampling, ToolResult, ToolSpec, User
from laguna_backend.backend import NANO
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.weights import load_weights
from laguna_backend.loading import load
from laguna_backend.model.forward import Laguna
from laguna_backend.nano.checkpoint import TEMPLATE
from laguna_backend.nano.tasks import FAMILIES
from laguna_backend.nano.train import exact_by_family
from laguna_backend.nano.vocabulary import nano_tokenizer
from laguna_backend.speaker import alone, message_of

torch.set_num_threads(1)

MEBIBYTE = 2**20


def test_everything_a_checkpoint_has_is_there_and_takes_at_most_eight_megabytes() -> None:
    names = {path.name for path in NANO.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert {"chat_template.jinja", "model.safetensors", "README.md"} <= names
    assert sum(path.stat().st_size for path in NANO.iterdir()) <= 8 * MEBIBYTE


def test_it_is_a_real_laguna_in_the_released_layout() -> None:
    config = read_config(NANO)
    kinds = [layer.window is None for layer in config.layers]
    assert kinds == [index % 4 == 0 for index in range(len(kinds))]
    assert config.eos == (2, 24)
    with safe_open(NANO / "model.safetensors", framework="pt") as file:
        assert "model.layers.1.mlp.experts.0.gate_proj.weight" in file.keys()  # noqa: SIM118 - a handle
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_its_tokenizer_and_its_template_are_those_of_the_code() -> None:
    shipped = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    assert shipped.get_vocab() == nano_tokenizer().get_vocab()
    assert (NANO / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATE


@pytest.fixture(scope="module")
def rates() -> dict[str, float]:
    config = read_config(NANO)
    laguna = Laguna(config, load_weights(Path(NANO), config, dtype=torch.float32).weights)
    return exact_by_family(laguna, nano_tokenizer(), 12, seed=3)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_does_most_held_out_tasks_of_every_family(family: str, rates: dict[str, float]) -> None:
    assert rates[family] >= 0.6


REMARKS = (
    "[as in the editor, with unsaved changes; grep and shell see the saved file]",
    "[not UTF-8; shown as Latin-1]",
    "[lines 1-400 of 900; continue with offset=401]",
)


@pytest.mark.parametrize("text", ["from the editor", "hello", "x = 1"])
def test_what_a_tool_remarks_on_a_file_is_not_taken_for_a_refusal(text: str) -> None:
    speaker = load(NANO)
    read = ToolSpec("read", "", {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]})
    asked: list[Message] = [User("Show `a.txt`.")]
    parts = list(alone(speaker, speaker.say(asked, [read], Sampling(max_tokens=100))))
    said = message_of(parts, "1")
    [use] = said.tool_uses
    for remark in REMARKS:
        result = ToolResult(use.id, use.name, f"1\t{text}\n{remark}")
        parts = list(alone(speaker, speaker.say([*asked, said, result], [read], Sampling(max_tokens=100))))
        assert message_of(parts, "2").text == "Here is the file."
