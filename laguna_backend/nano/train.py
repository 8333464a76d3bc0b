"""`laguna train nano`: make laguna-nano from nothing but a seed.

Conversations are drawn without end from the simulator; the loss falls on what the assistant says, and lightly on the
rest, where repeated names teach copying. Every few minutes the run is saved and measured on held-out tasks: a task
counts when every token of every step is the model's first choice. A killed run goes on from its last save.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from ..checkpoint.weights import load_weights
from ..model.config import LagunaConfig
from ..model.forward import Apart, Laguna, Layer, Weights, random_weights
from .checkpoint import export as write_checkpoint
from .names import Names
from .optimizer import Muon
from .tasks import FAMILIES, draw, play
from .transcript import Transcript, write_down
from .vocabulary import nano_tokenizer

LAYERS = 8
REST_WEIGHT = 0.1  # of tokens that the assistant does not say, at first: most cannot be foretold, which is noise later
REST_UNTIL = 0.5  # of the run

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
    for kv in range(config.kv_heads):
        rows = slice(kv * dim, (kv + 1) * dim)
        common = torch.randn(dim, hidden, generator=generator) * hidden**-0.5
        inputs.k[rows] = common + 0.3 * inputs.k[rows]
        for member in range(groups):
            head = slice((kv * groups + member) * dim, (kv * groups + member + 1) * dim)
            inputs.q[head] = common + (1.0 if member else 0.3) * inputs.q[head]
            out[:, head] = 0.5 * out[:, head] + (0 if member else 0.5) * inputs.v[rows].T


# Data ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    tokens: Tensor  # [B, T]
    said: Tensor  # [B, T - 1]: 1 where the next token is the assistant's, else 0
    rest: Tensor  # [B, T - 1]: 1 where it is somebody else's; both are 0 on padding


def conversation(tokenizer: Tokenizer, names: Names) -> Transcript:
    """One drawn task, played and written down."""
    task = draw(names)
    thinking = names.rng.random() < 0.9
    return write_down(tokenizer, task.prompt, play(task), thinking=thinking)


def batches(tokenizer: Tokenizer, seed: int, size: int, longest: int) -> Iterator[Batch]:
    """Batches of about `size` tokens, conversations of like length together."""
    names = Names(random.Random(seed))
    while True:
        pool = [conversation(tokenizer, names) for _ in range(200)]
        pool = sorted((t for t in pool if len(t.ids) <= longest), key=lambda t: len(t.ids))
        groups: list[list[Transcript]] = [[]]
        for item in pool:
            if groups[-1] and len(item.ids) * (len(groups[-1]) + 1) > size:
                groups.append([])
            groups[-1].append(item)
        names.rng.shuffle(groups)
        yield from (pack(group) for group in groups)


def pack(group: list[Transcript]) -> Batch:
    """Conversations side by side, padded at the end, where causal attention does not look."""
    longest = max(len(item.ids) for item in group)
    tokens = torch.full((len(group), longest), 9, dtype=torch.long)
    said, rest = torch.zeros(len(group), longest), torch.zeros(len(group), longest)
    for row, item in enumerate(group):
        tokens[row, : len(item.ids)] = torch.tensor(item.ids)
        learn = torch.tensor(item.learn, dtype=torch.float32)
        said[row, : len(item.ids)], rest[row, : len(item.ids)] = learn, 1 - learn
    return Batch(tokens, said[:, 1:], rest[:, 1:])


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


class Run:
    """A training run that can stop at any time: weights, optimiser, counters, and the folder they are saved in."""

    def __init__(self, folder: Path, seed: int, options: argparse.Namespace) -> None:
        self.folder, self.seed, self.options = folder, seed, options
        self.tokenizer = nano_tokenizer()
        raw = {**CONFIG, "vocab_size": self.tokenizer.get_vocab_size()}
        self.config = LagunaConfig.from_dict(raw)
        self.laguna = Laguna(self.config, self.first_weights())
        named = [(n, p.requires_grad_()) for n, p in self.laguna.weights.named() if not n.endswith("bias")]
        self.optimizer = Muon(named, matrix_rate=options.matrix_rate, rate=options.rate)
        self.steps, self.tokens, self.seconds = 0, 0, 0.0
        self.loss, self.best = math.nan, -1.0

    def first_weights(self) -> Weights:
        """A checkpoint's weights with --init, new ones without."""
        if self.options.init is None:
            return initial_weights(self.config, self.seed)
        return load_weights(self.options.init, self.config, dtype=torch.float32).weights

    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        if self.options.steps:
            return min(1.0, self.steps / self.options.steps)
        return min(1.0, self.seconds / (self.options.minutes * 60))

    def scale(self) -> float:
        """Of the learning rates: a short warm-up, a plateau, and a straight way down to nothing."""
        decay = self.options.decay
        return min(1.0, (self.steps + 1) / 50, max(0.0, (1 - self.progress()) / decay))

    def rest_weight(self) -> float:
        return REST_WEIGHT if self.progress() < REST_UNTIL else 0.0

    def train(self) -> None:
        last_save = last_word = time.monotonic()
        source = batches(self.tokenizer, self.seed + 1 + self.steps, self.options.batch, self.options.longest)
        while self.progress() < 1.0:
            clock = time.monotonic()
            batch = next(source)
            self.step(batch)
            now = time.monotonic()
            self.steps, self.tokens = self.steps + 1, self.tokens + batch.tokens.numel()
            self.seconds += now - clock
            if now - last_word > 20:
                print(self.describe(), flush=True)
                last_word = now
            if now - last_save > self.options.save_every:
                self.measure()
                last_save = time.monotonic()
        self.measure()

    def step(self, batch: Batch) -> None:
        logits = self.laguna.forward(batch.tokens[:, :-1])
        losses = F.cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten(), reduction="none")
        weight = (batch.said + self.rest_weight() * batch.rest).flatten()
        loss = (losses * weight).sum() / weight.sum()
        torch.autograd.backward(loss)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SystemExit(f"the loss is {value} at step {self.steps}; resume from the last save")
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        self.optimizer.step(self.scale())

    def describe(self) -> str:
        pace = self.tokens / max(self.seconds, 1e-9)
        return (
            f"step {self.steps}  {self.tokens / 1e6:.2f}M tokens  {pace:.0f} tok/s  loss {self.loss:.4f}  "
            f"rate x{self.scale():.2f}  {100 * self.progress():.1f} %"
        )

    def measure(self) -> None:
        """Save the run, and say how many held-out tasks it has right."""
        self.save()
        rates = exact_by_family(self.laguna, self.tokenizer, self.options.tasks, seed=10_000 + self.seed)
        shown = "  ".join(f"{family} {rate:.2f}" for family, rate in rates.items())
        print(f"{self.describe()}\n  exact: {shown}", flush=True)

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "weights": dict(self.laguna.weights.named()),
            "optimizer": self.optimizer.state(),
            "counters": {
                "steps": self.steps,
                "tokens": self.tokens,
                "seconds": self.seconds,
                "loss": self.loss,
            },
        }
        partial = self.folder / "state.part"
        torch.save(state, partial)
        partial.replace(self.folder / "state.pt")
        (self.folder / "options.json").write_text(json.dumps(vars(self.options), default=str))

    def export(self, directory: Path) -> None:
        """Write every file of a checkpoint but the model card."""
        directory.mkdir(parents=True, exist_ok=True)
        raw = {**CONFIG, "vocab_size": self.tokenizer.get_vocab_size()}
        write_checkpoint(self.laguna.weights, raw, self.tokenizer, directory)

    @torch.no_grad()
    def restore(self) -> None:
        state = torch.load(self.folder / "state.pt", weights_only=True)
        for name, tensor in self.laguna.weights.named():
            tensor.copy_(state["weights"][name])
        self.optimizer.restore(state["optimizer"])
        for name, value in state["counters"].items():
            setattr(self, name, value)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="laguna train nano", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="folder of the run's state")
    parser.add_argument("--minutes", type=float, default=120.0, help="training time, resumed time included")
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument("--resume", action="store_true", help="go on from the state in --out")
    parser.add_argument("--init", type=Path, metavar="DIR", help="begin with a checkpoint's weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=4096, help="tokens a step")
    parser.add_argument("--longest", type=int, default=1600, help="tokens of the longest conversation")
    parser.add_argument("--matrix-rate", type=float, default=0.02, help="learning rate of matrices (Muon)")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate of the rest (AdamW)")
    parser.add_argument("--decay", type=float, default=0.3, help="share of the run in which the rates fall")
    parser.add_argument("--save-every", type=float, default=300.0, help="seconds between saves")
    parser.add_argument("--tasks", type=int, default=20, help="held-out tasks a family at each save")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the trained weights as a checkpoint")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = arguments().parse_args([a for a in argv or [] if a != "nano"] if argv is not None else None)
    if options.threads:
        torch.set_num_threads(options.threads)
    run = Run(options.out, options.seed, options)
    if options.resume and (options.out / "state.pt").exists():
        run.restore()
        print(f"resumed: {run.describe()}")
    run.train()
    if options.export is not None:
        run.export(options.export)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
