"""`laguna train nano`: make laguna-nano from nothing but a seed.

Conversations are drawn without end from the simulator; the loss falls on what the assistant says, and lightly on the
rest, where repeated names teach copying. Every few minutes the run is saved and measured on held-out tasks: a task
counts when every token of every step is the model's first choice. The run is a `train.trainer`'s like any other, only
its conversations are drawn and not read.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from ..checkpoint.weights import load_weights
from ..model.config import LagunaConfig
from ..model.forward import Apart, Laguna, Layer, Weights, random_weights
from ..train.errors import TrainingError, WrongUse
from ..train.figures import Log
from ..train.network import Network
from ..train.optimizer import Optimizer, Rule
from ..train.packing import Document, Pack, groups, pack
from ..train.saving import Saves
from ..train.trainer import INTERRUPTED, Plan, Trainer
from ..train.world import World
from .checkpoint import export as write_checkpoint
from .names import Names
from .tasks import FAMILIES, draw, play
from .transcript import Transcript, write_down
from .vocabulary import nano_tokenizer

LAYERS = 8
REST_WEIGHT = 0.1  # of tokens that the assistant does not say, at first: most cannot be foretold, which is noise later
REST_UNTIL = 0.5  # of the run
LOT = 200  # conversations drawn at a time

CONFIG: dict[str, Any] = {
    "architectures": ["LagunaForCausalLM"],
    "model_type": "laguna",
    "vocab_size": 648,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_attention_heads_per_layer": [4 if i % 4 == 0 else 6 for i in range(LAYERS)],
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 8192,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "rms_norm_eps": 1e-6,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "shared_expert_intermediate_size": 128,
    "moe_routed_scaling_factor": 2.5,
    "moe_apply_router_weight_on_input": False,
    "moe_router_logit_softcapping": 0.0,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_layer_types": ["dense"] + ["sparse"] * (LAYERS - 1),
    "layer_types": ["full_attention" if i % 4 == 0 else "sliding_attention" for i in range(LAYERS)],
    "sliding_window": 512,
    "swa_attention_sink_enabled": False,
    "gating": "per-head",
    "rope_parameters": {
        "full_attention": {
            "rope_type": "yarn",
            "rope_theta": 500000.0,
            "factor": 2.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 64.0,
            "beta_slow": 1.0,
            "attention_factor": 1.0,
            "partial_rotary_factor": 0.5,
        },
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
    },
    "tie_word_embeddings": False,
    "bos_token_id": 2,
    "eos_token_id": [2, 24],
    "pad_token_id": 9,
    "dtype": "bfloat16",
}


# Where to start ------------------------------------------------------------------------------------------


@torch.no_grad()
def initial_weights(config: LagunaConfig, seed: int) -> Weights:
    """Random weights with three hints that shorten the way to copying (mimetic initialisation, arXiv 2305.09828).

    The head starts as the embedding, so that what attention carries over is read as the token it came from; one
    embedding dimension is constant, a bias that lets a head look at a fixed distance; and in each group of heads
    queries start close to keys and outputs close to values, so that equal tokens attend to each other.
    """
    weights = random_weights(config, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    weights.embed[:, 0] = 1.5
    head = weights.head
    assert isinstance(head, torch.Tensor)
    head.copy_(weights.embed / config.hidden_size**0.5)
    head[:, 0] = 0
    for spec, layer in zip(config.layers, weights.layers, strict=True):
        align(layer, config, spec.heads // config.kv_heads, generator)
    return weights


def align(layer: Layer, config: LagunaConfig, groups: int, generator: torch.Generator) -> None:
    """Pull each head's query towards its key and its output towards its value; the first of a group most."""
    dim, hidden, inputs, out = config.head_dim, config.hidden_size, layer.inputs, layer.out
    assert isinstance(inputs, Apart)
    assert isinstance(out, torch.Tensor)
    q, k, v, _ = inputs.tensors()
    for kv in range(config.kv_heads):
        rows = slice(kv * dim, (kv + 1) * dim)
        common = torch.randn(dim, hidden, generator=generator) * hidden**-0.5
        k[rows] = common + 0.3 * k[rows]
        for member in range(groups):
            head = slice((kv * groups + member) * dim, (kv * groups + member + 1) * dim)
            q[head] = common + (1.0 if member else 0.3) * q[head]
            out[:, head] = 0.5 * out[:, head] + (0 if member else 0.5) * v[rows].T


# Data ----------------------------------------------------------------------------------------------------


class Simulator:
    """Conversations without end, drawn by the seed in lots of `LOT`, in packs of at most `size` tokens."""

    def __init__(self, tokenizer: Tokenizer, *, seed: int, size: int, longest: int) -> None:
        self.tokenizer, self.seed, self.size, self.longest = tokenizer, seed, size, longest
        self.lot = self.done = 0
        self.packed = self.drawn(0)

    def drawn(self, lot: int) -> list[list[Document]]:
        """The packs of a lot."""
        names = Names(random.Random(f"{self.seed} {lot}"))
        played = (conversation(self.tokenizer, names) for _ in range(LOT))
        documents = [Document.of(one.ids, one.learn) for one in played if len(one.ids) <= self.longest]
        packed = list(groups(documents, self.size))
        names.rng.shuffle(packed)
        return packed

    def step(self, progress: float) -> list[Pack]:
        if self.done == len(self.packed):
            self.lot, self.done = self.lot + 1, 0
            self.packed = self.drawn(self.lot)
        self.done += 1
        return [pack(self.packed[self.done - 1], rest=REST_WEIGHT if progress < REST_UNTIL else 0.0)]

    def state(self) -> Mapping[str, Any]:
        return {"lot": self.lot, "done": self.done}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.lot, self.done = int(state["lot"]), int(state["done"])
        self.packed = self.drawn(self.lot)


def conversation(tokenizer: Tokenizer, names: Names) -> Transcript:
    """One drawn task, played and written down."""
    task = draw(names)
    thinking = names.rng.random() < 0.9
    return write_down(tokenizer, task.prompt, play(task), thinking=thinking)


# Measuring -----------------------------------------------------------------------------------------------


@torch.no_grad()
def exact_by_family(laguna: Laguna, tokenizer: Tokenizer, tasks: int, seed: int) -> dict[str, float]:
    """Share of held-out conversations whose every learnt token is the model's first choice, by family."""
    names = Names(random.Random(seed), held_out=True)
    right: Counter[str] = Counter()
    rates: dict[str, float] = {}
    for family in FAMILIES:
        for _ in range(tasks):
            task = draw(names, [family])
            transcript = write_down(tokenizer, task.prompt, play(task))
            tokens = torch.tensor([transcript.ids])
            choice = laguna.forward(tokens[:, :-1])[0].argmax(-1)
            learn = torch.tensor(transcript.learn[1:])
            right[family] += bool((choice[learn] == tokens[0, 1:][learn]).all())
        rates[family] = right[family] / tasks
    return rates


# The run -------------------------------------------------------------------------------------------------


def prepared(options: argparse.Namespace) -> Trainer:
    """The run, restored with --resume where there is something to go on from."""
    tokenizer = nano_tokenizer()
    config = LagunaConfig.from_dict(CONFIG | {"vocab_size": tokenizer.get_vocab_size()})
    weights = (
        initial_weights(config, options.seed)
        if options.init is None
        else load_weights(options.init, config, dtype=torch.float32).weights
    )
    world = World(torch.device("cpu"))
    network = Network(config, weights)
    rule = Rule(kind="muon", rate=options.rate, matrix_rate=options.matrix_rate, clip=0.0)
    plan = Plan(
        steps=options.steps,
        minutes=None if options.steps else options.minutes,
        decay=options.decay,
        bias_rate=options.bias_rate,
        seed=options.seed,
        save_seconds=options.save_every,
    )

    def evaluate(network: Network) -> Mapping[str, Any]:
        laguna = Laguna(config, network.weights())
        return exact_by_family(laguna, tokenizer, options.tasks, seed=10_000 + options.seed)

    options.out.mkdir(parents=True, exist_ok=True)
    saves, log = Saves(options.out, world), Log(options.out / "log.jsonl")
    if not options.resume and saves.whole():
        raise WrongUse(f"{options.out} has a run already: go on with it (--resume), or choose another --out")
    source = Simulator(tokenizer, seed=options.seed + 1, size=options.batch, longest=options.longest)
    trainer = Trainer(
        network, Optimizer(network.named_parameters(), rule), source, plan, saves, log, world, evaluate=evaluate
    )
    if options.resume and saves.whole():
        trainer.restore()
        print(f"resumed: {trainer.described()}")
    return trainer


def export(network: Network, directory: Path) -> None:
    """Write every file of a checkpoint but the model card."""
    tokenizer = nano_tokenizer()
    directory.mkdir(parents=True, exist_ok=True)
    write_checkpoint(network.weights(), CONFIG | {"vocab_size": tokenizer.get_vocab_size()}, tokenizer, directory)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="laguna train nano", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="folder of the run's states and log")
    parser.add_argument("--minutes", type=float, default=120.0, help="training time, resumed time included")
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument("--resume", action="store_true", help="go on from the last state in --out")
    parser.add_argument("--init", type=Path, metavar="DIR", help="begin with a checkpoint's weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=4096, help="most tokens of a step")
    parser.add_argument("--longest", type=int, default=1600, help="tokens of the longest conversation")
    parser.add_argument("--matrix-rate", type=float, default=0.02, help="learning rate of matrices (Muon)")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate of the rest (AdamW)")
    parser.add_argument("--decay", type=float, default=0.3, help="share of the run in which the rates fall")
    parser.add_argument("--bias-rate", type=float, default=0.0, help="of the routers' balancing; it learns without")
    parser.add_argument("--save-every", type=float, default=300.0, help="seconds between saves")
    parser.add_argument("--tasks", type=int, default=20, help="held-out tasks a family at each save")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the trained weights as a checkpoint")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; a second one gains little")
    return parser


def main(argv: Sequence[str]) -> int:
    options = arguments().parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        trainer = prepared(options)
        if not trainer.run():
            print(f"stopped and saved; go on with --resume --out {options.out}")
            return INTERRUPTED
    except (TrainingError, OSError, ValueError) as error:
        print(f"laguna: {error}", file=sys.stderr)
        return 1
    if options.export is not None:
        export(trainer.network, options.export)
    return 0
