"""What is trained is the model that runs: losses, gradients against transformers', adapters, balancing."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_checkpoint import write_checkpoint
from torch import Tensor
from training import documents_of, network_of, write_conversations

from laguna_backend.checkpoint.adapter import Adapter, adapt
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.weights import load_weights, released, save_checkpoint
from laguna_backend.model.forward import Laguna
from laguna_backend.model.parameters import Sparse
from laguna_backend.train import network as network_module
from laguna_backend.train.figures import Log
from laguna_backend.train.lora import GROUPS, Lora
from laguna_backend.train.network import Network
from laguna_backend.train.optimizer import Optimizer, Rule
from laguna_backend.train.packing import Document, Epochs, Pack, pack
from laguna_backend.train.saving import Saves
from laguna_backend.train.trainer import Plan, Trainer
from laguna_backend.train.world import World

torch.set_num_threads(1)

ALL = tuple(GROUPS)
PLAIN = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
YARN = {"rope_type": "yarn", "rope_theta": 5e5, "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose routers have biases and whose window is shorter than the documents."""
    directory = write_checkpoint(
        tmp_path_factory.mktemp("tiny-laguna"),
        sliding_window=7,
        gating="per-element",
        moe_router_logit_softcapping=5.0,
        rope_parameters={"full_attention": YARN | {"partial_rotary_factor": 0.5}, "sliding_attention": PLAIN},
    )
    config = read_config(directory)
    weights = load_weights(directory, config, dtype=torch.float32).weights
    for layer in weights.layers:
        if isinstance(layer.mlp, Sparse):
            layer.mlp.bias.copy_(torch.tensor([0.2, -0.1, 0.0, 0.3]))
    save_checkpoint(weights, directory, dtype=torch.float32)
    return directory


@pytest.fixture(scope="module")
def documents(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    return documents_of(checkpoint, write_conversations(tmp_path_factory.mktemp("data") / "data.jsonl", 4))


def loss_alone(logits: Tensor, document: Document) -> Tensor:
    """The sum of the losses of a document's learnt tokens."""
    learn = document.learn[1:]
    return F.cross_entropy(logits[learn].float(), document.ids[1:][learn].long(), reduction="sum")


def gradients(network: Network, packed: Pack) -> dict[str, Tensor]:
    torch.autograd.backward(network(packed).total)
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@torch.no_grad()
def test_packed_documents_have_the_losses_that_each_has_alone(checkpoint: Path, documents: Sequence[Document]) -> None:
    config = read_config(checkpoint)
    laguna = Laguna(config, load_weights(checkpoint, config, dtype=torch.float32).weights)
    alone = [loss_alone(laguna.forward(d.ids[None, :-1].long())[0], d) for d in documents]
    network = network_of(checkpoint)
    together = network(pack(documents)).total
    assert float(together) == pytest.approx(float(sum(alone)), rel=1e-5)
    for document, expected in zip(documents, alone, strict=True):
        assert float(network(pack([document])).total) == pytest.approx(float(expected), rel=1e-5)


def test_gradients_of_packed_documents_are_those_of_transformers(
    checkpoint: Path, documents: Sequence[Document]
) -> None:
    """Every released tensor but the routers' biases, which only choose."""
    network = network_of(checkpoint)
    found = gradients(network, pack(documents))
    for name, parameter in network.named_parameters():
        parameter.data.copy_(found[name])
    ours = dict(released(network.weights()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers: Any = importlib.import_module("transformers")
        reference = transformers.LagunaForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    for document in documents:
        loss_alone(reference(document.ids[None, :-1].long()).logits[0], document).backward()
    theirs = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    compared = 0
    for name, mine in ours.items():
        if name.endswith("e_score_correction_bias"):
            continue
        their = theirs_of(name, theirs)
        assert float((mine - their).abs().max()) <= 1e-4 * float(their.abs().max()) + 1e-7, name
        compared += 1
    assert compared == len(ours) - 2


def theirs_of(name: str, theirs: dict[str, Tensor]) -> Tensor:
    """transformers' gradient of a released tensor: it fuses the experts."""
    name = name.replace(".shared_expert.", ".shared_experts.")
    head, experts, rest = name.partition(".mlp.experts.")
    if not experts:
        return theirs[name]
    expert, projection, _ = rest.split(".")
    if projection == "down_proj":
        return theirs[f"{head}.mlp.experts.down_proj"][int(expert)]
    gate, up = theirs[f"{head}.mlp.experts.gate_up_proj"][int(expert)].chunk(2)
    return gate if projection == "gate_proj" else up


@pytest.mark.parametrize("lora", [None, Lora(3, 6.0, targets=ALL)])
def test_keeping_less_in_memory_changes_no_gradient(
    checkpoint: Path, documents: Sequence[Document], lora: Lora | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = gradients(network_of(checkpoint, lora=lora), pack(documents))
    monkeypatch.setattr(network_module, "LOGITS", 7 * 400)  # seven tokens' logits at a time
    less = gradients(network_of(checkpoint, lora=lora, recompute=True), pack(documents))
    assert plain.keys() == less.keys()
    for name, gradient in plain.items():
        assert torch.allclose(gradient, less[name], atol=1e-5), name


def test_products_in_bfloat16_leave_weights_and_gradients_in_float32(
    checkpoint: Path, documents: Sequence[Document]
) -> None:
    exact = gradients(network_of(checkpoint), pack(documents))
    network = network_of(checkpoint, dtype=torch.bfloat16)
    rounded = gradients(network, pack(documents))
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    total = sum(float((rounded[name] - exact[name]).square().sum()) for name in exact) ** 0.5
    assert 0 < total < 0.2 * sum(float(g.square().sum()) for g in exact.values()) ** 0.5
    assert rounded["layers.1.weights.inputs.q"].dtype == torch.float32


def test_the_loads_are_how_often_each_expert_was_chosen(checkpoint: Path, documents: Sequence[Document]) -> None:
    packed = pack(documents)
    loads = network_of(checkpoint)(packed).loads
    assert [int(load.sum()) for load in loads] == [2 * len(packed.tokens)] * 2
    again = network_of(checkpoint, recompute=True)
    losses = again(packed)
    torch.autograd.backward(losses.total)  # computes the layers once more, and counts nothing twice
    assert all(torch.equal(a, b) for a, b in zip(loads, losses.loads, strict=True))


# Adapters ------------------------------------------------------------------------------------------------


def trained(network: Network, packed: Pack, steps: int = 6, rate: float = 0.02) -> list[float]:
    """The losses of a few steps."""
    optimizer = Optimizer([(n, p) for n, p in network.named_parameters() if p.requires_grad], Rule(rate=rate))
    found: list[float] = []
    for _ in range(steps):
        losses = network(packed)
        torch.autograd.backward(losses.total / packed.weight)
        found.append(float(losses.total.detach()) / packed.weight)
        optimizer.step(1.0)
    return found


@pytest.mark.parametrize("targets", [("attention",), ("experts",), ("shared",), ("dense",), ALL])
def test_an_adapter_learns_and_the_frozen_weights_stay_bit_for_bit(
    checkpoint: Path, documents: Sequence[Document], targets: tuple[str, ...]
) -> None:
    network = network_of(checkpoint, lora=Lora(4, 8.0, targets=targets))
    frozen = {name: p.clone() for name, p in network.named_parameters() if not p.requires_grad}
    biases = [bias.clone() for bias in network.buffers()]
    before = {name: p.clone() for name, p in network.named_parameters() if p.requires_grad}
    losses = trained(network, pack(documents))
    assert losses[-1] < losses[0] - 0.001
    after = dict(network.named_parameters())
    assert all(torch.equal(p, after[name]) for name, p in frozen.items())
    assert all(torch.equal(a, b) for a, b in zip(biases, network.buffers(), strict=True))
    assert not [name for name, p in before.items() if torch.equal(p, after[name])]


@torch.no_grad()
def test_a_new_adapter_changes_nothing(checkpoint: Path, documents: Sequence[Document]) -> None:
    plain = network_of(checkpoint)(pack(documents)).total
    adapted = network_of(checkpoint, lora=Lora(4, 8.0, targets=ALL))(pack(documents)).total
    assert torch.equal(plain, adapted)


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_a_trained_adapter_has_at_run_time_the_loss_it_was_trained_to(
    checkpoint: Path, documents: Sequence[Document], precision: Any
) -> None:
    packed = pack(documents)
    dtype = torch.float32 if precision == "bf16" else torch.bfloat16
    network = network_of(checkpoint, precision, frozen=dtype, dtype=dtype, lora=Lora(4, 8.0, targets=ALL))
    losses = trained(network, packed)
    assert losses[-1] < losses[0]
    network.eval()
    with torch.no_grad():
        expected = float(network(packed).total)
        plain = network_of(checkpoint, precision, frozen=dtype, dtype=dtype)
        weights = plain.weights()
        adapt(weights, Adapter(network.adapter(), 4, 8.0))
        laguna = Laguna(plain.config, weights)
        alone = [loss_alone(laguna.forward(d.ids[None, :-1].long())[0], d) for d in documents]
    assert float(sum(alone)) == pytest.approx(expected, rel=1e-5 if precision == "bf16" else 0.02)
    assert float(sum(alone)) < 0.95 * losses[0] * packed.weight


def test_dropout_is_drawn_in_training_and_not_in_evaluation(checkpoint: Path, documents: Sequence[Document]) -> None:
    network = network_of(checkpoint, lora=Lora(4, 8.0, dropout=0.5))
    packed = pack(documents)
    trained(network, packed, steps=2)
    with torch.no_grad():
        draws = {float(network(packed).total) for _ in range(2)}
        torch.manual_seed(1)
        once = network(packed).total
        torch.manual_seed(1)
        assert torch.equal(network(packed).total, once)
        network.eval()
        steady = {float(network(packed).total) for _ in range(2)}
    assert len(draws) == 2
    assert len(steady) == 1


def test_targets_are_groups_or_patterns(checkpoint: Path) -> None:
    def parts(*targets: str) -> set[str]:
        return set(network_of(checkpoint, lora=Lora(2, 2.0, targets=targets)).adapter())

    at = "model.layers."
    assert parts("dense") == {f"{at}0.mlp.{name}_proj" for name in ("gate", "up", "down")}
    assert parts("*.1.self_attn.[qo]_proj") == {f"{at}1.self_attn.{name}_proj" for name in "qo"}
    assert parts("experts") == {f"{at}{i}.mlp.experts.{n}_proj" for i in (1, 2) for n in ("gate", "up", "down")}
    assert len(parts("attention")) == 15
    with pytest.raises(ValueError, match="no module is called"):
        parts("attention", "*.w1")


# Balancing -----------------------------------------------------------------------------------------------


def test_biases_move_towards_an_even_load(checkpoint: Path, documents: Sequence[Document], tmp_path: Path) -> None:
    network = network_of(checkpoint)
    world = World(torch.device("cpu"))
    optimizer = Optimizer(network.named_parameters(), Rule(rate=0.0))
    source = Epochs(documents, length=1000, batch=1, seed=0)
    trainer = Trainer(
        network, optimizer, source, Plan(steps=60, warmup=0, bias_rate=0.01), Saves(tmp_path, world),
        Log(tmp_path / "log.jsonl"), world,
    )  # fmt: skip
    before = network(pack(documents)).loads
    for _ in range(60):
        trainer.step(source.step(0.0))
    after = network(pack(documents)).loads
    for mine, their in zip(before, after, strict=True):
        assert float(their.max() / their.float().mean()) < float(mine.max() / mine.float().mean())
        assert float(their.max() / their.float().mean()) < 1.15
