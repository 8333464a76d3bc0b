"""`laguna train DIR --data FILE`: train a checkpoint, or an adapter of it, on conversations.

FILE has a conversation in each line: {"messages": […], "tools": […]} in OpenAI's form. With --lora an adapter is
trained and the checkpoint stays as it is; else all weights are. The run is kept in --out: its options, a log, the last
saved states, and at the end `adapter/` or `checkpoint/`. Ctrl-C saves and stops; `laguna train --resume OUT` goes on.
Several processes: torchrun --nproc-per-node N -m laguna_backend train ….
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..backend import group_of
from ..chat.encoding import Chat
from ..checkpoint.adapter import Adapter, save_adapter
from ..checkpoint.configuration import read_config
from ..checkpoint.weights import load_weights
from ..loading import chat_template, name_of, parameters, tokenizer_of
from ..model.device import place, quick_bfloat16, spread
from ..model.linear import GROUPS, ON_CPU, Packer
from .conversations import read_documents
from .errors import TrainingError, WrongUse
from .export import export
from .figures import Log
from .lora import GROUPS as TARGETS
from .lora import USUAL, Lora
from .network import Network
from .optimizer import Optimizer, Rule
from .packing import Epochs
from .saving import Saves
from .trainer import INTERRUPTED, Plan, Trainer, held_out
from .world import World, opened

OPTIONS = "run.json"
MAY_CHANGE = {
    "steps",
    "epochs",
    "minutes",
    "save_steps",
    "save_seconds",
    "evaluate_steps",
    "keep",
    "threads",
    "recompute",
}
"""What `--resume` may be given another value of. Anything else would make another run."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="laguna train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", nargs="?", metavar="DIR", help="the checkpoint to begin with")
    parser.add_argument("--data", nargs="+", metavar="FILE", help="conversations to learn, JSON lines")
    parser.add_argument("--held-out", nargs="+", metavar="FILE", help="conversations to measure by")
    parser.add_argument("--out", default="runs/train", metavar="RUN", help="folder of the run; default runs/train")
    parser.add_argument("--resume", metavar="RUN", help="go on with a run, by its own options")
    parser.add_argument("--seed", type=int, default=0)

    length = parser.add_argument_group("how long (one of)")
    length.add_argument("--epochs", type=float, default=1.0, help="times through the data; default 1")
    length.add_argument("--steps", type=int)
    length.add_argument("--minutes", type=float, help="of training")

    size = parser.add_argument_group("a step")
    size.add_argument(
        "--length", type=int, default=4096, help="tokens of a pack: the longest conversation; default 4096"
    )
    size.add_argument("--batch", type=int, default=8, help="packs, over all processes; default 8")

    moves = parser.add_argument_group("learning")
    moves.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw", help="default adamw")
    moves.add_argument("--rate", type=float, help="AdamW's; default 1e-5, for an adapter 2e-4")
    moves.add_argument("--matrix-rate", type=float, default=0.002, help="Muon's, of matrices; default 0.002")
    moves.add_argument("--weight-decay", type=float, default=0.0)
    moves.add_argument("--clip", type=float, default=1.0, help="longest gradient; 0: any; default 1")
    moves.add_argument("--warmup", type=int, default=20, help="steps in which rates rise; default 20")
    moves.add_argument("--schedule", choices=("linear", "cosine", "constant"), default="linear")
    moves.add_argument("--decay", type=float, default=1.0, help="share of the run in which rates fall; default 1")
    moves.add_argument("--bias-rate", type=float, help="of the routers' balancing; default 0.001, for an adapter 0")

    adapter = parser.add_argument_group("an adapter")
    adapter.add_argument("--lora", type=int, metavar="RANK", help="train an adapter of this rank, and no weights")
    adapter.add_argument("--alpha", type=float, help="its parts count alpha / rank; default 2 * rank")
    adapter.add_argument("--dropout", type=float, default=0.0)
    adapter.add_argument(
        "--targets", default=",".join(USUAL), help=f"{', '.join(TARGETS)}, or patterns of module names; default {USUAL}"
    )
    adapter.add_argument("--weights", choices=ON_CPU, default="bf16", help="pack the frozen weights (CPU)")
    adapter.add_argument("--group", type=int, choices=tuple(GROUPS), help="INT4's groups; default 32")

    machine = parser.add_argument_group("the machine")
    machine.add_argument("--device", help="cuda, mps or cpu; default: the best there is")
    machine.add_argument("--dtype", choices=("bfloat16", "float32"), help="of products; weights that learn are float32")
    machine.add_argument("--recompute", action="store_true", help="keep less in memory and compute it twice")
    machine.add_argument("--threads", type=int, help="CPU threads")

    keeping = parser.add_argument_group("keeping")
    keeping.add_argument("--save-steps", type=int, help="steps between saved states")
    keeping.add_argument("--save-seconds", type=float, default=600.0, help="or seconds; default 600")
    keeping.add_argument("--keep", type=int, default=2, help="saved states that stay; default 2")
    keeping.add_argument("--evaluate-steps", type=int, help="steps between evaluations; default: at each save")
    return parser


def chosen(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a run: those given, or with --resume the run's own and what may change. Raises WrongUse."""
    parser = arguments()
    given = parser.parse_args(argv)
    if given.resume is None:
        if given.base is None or not given.data:
            parser.error("give a checkpoint's directory and --data, or --resume")
        try:
            given.group = group_of(given.weights, given.group)
        except ValueError as error:
            parser.error(f"--group: {error}")
        return given
    folder = Path(given.resume)
    try:
        kept: dict[str, Any] = json.loads((folder / OPTIONS).read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WrongUse(f"{folder} holds no run to go on with: {error}") from error
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage]
        action.default = argparse.SUPPRESS
    changed = {name: value for name, value in vars(parser.parse_args(argv)).items() if name != "resume"}
    different = [name for name, value in changed.items() if name not in MAY_CHANGE and value != kept.get(name)]
    if different:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in different)
        raise WrongUse(f"a run that is gone on with keeps its {names}")
    if changed.keys() & {"steps", "minutes", "epochs"}:
        kept |= {"steps": None, "minutes": None}
    return argparse.Namespace(**kept | changed | {"out": str(folder), "resume": str(folder)})


@dataclass(frozen=True)
class Run:
    """A run that is ready to go, and how to give its result away."""

    trainer: Trainer
    options: argparse.Namespace
    world: World

    @property
    def folder(self) -> Path:
        return Path(self.options.out)

    def finish(self) -> Path:
        """Write the adapter or the checkpoint."""
        network = self.trainer.network
        if network.lora is None:
            export(network, Path(self.options.base), self.folder / "checkpoint", self.world)
            return self.folder / "checkpoint"
        lora, parts = network.lora, network.adapter()
        if self.world.first:
            name = name_of(Path(self.options.base).resolve())
            save_adapter(Adapter(parts, lora.rank, lora.alpha, lora.dropout, base=name), self.folder / "adapter")
        return self.folder / "adapter"


def prepared(options: argparse.Namespace, world: World, dtype: torch.dtype) -> Run:
    """Everything read, made and, with --resume, restored. Raises what reading raises, and WrongUse."""
    base, folder = Path(options.base), Path(options.out)
    config = read_config(base)
    chat = Chat(chat_template(base), tokenizer_of(base))
    length = min(options.length, config.max_context)
    data, held = ([Path(name) for name in names or ()] for names in (options.data, options.held_out))
    documents = [document for path in data for document in read_documents(path, chat, longest=length)]
    measured = [document for path in held for document in read_documents(path, chat, longest=length)]
    identify(options, [*data, *held], world)

    lora = None
    if options.lora is not None:
        lora = Lora(
            options.lora, options.alpha or 2.0 * options.lora, options.dropout, options.targets.split(","), options.seed
        )
    bias_rate = options.bias_rate if options.bias_rate is not None else (0.0 if lora else 1e-3)
    if lora and bias_rate:
        raise WrongUse("--bias-rate moves the routers' biases, which an adapter leaves as they are")
    if not lora and options.weights != "bf16":
        raise WrongUse("packed weights cannot learn: train an adapter beside them (--lora)")
    loaded = load_weights(
        base, config, dtype=dtype if lora else torch.float32, packer=Packer(options.weights, options.group)
    )
    network = Network(config, loaded.weights, lora=lora, dtype=dtype, recompute=options.recompute)
    del loaded
    world.sharded(network)
    rule = Rule(
        kind=options.optimizer,
        rate=options.rate or (2e-4 if lora else 1e-5),
        matrix_rate=options.matrix_rate,
        decay=options.weight_decay,
        matrix_decay=options.weight_decay,
        clip=options.clip,
    )
    source = Epochs(documents, length=length, batch=options.batch, seed=options.seed)
    timed = options.minutes is not None
    plan = Plan(
        steps=None if timed else options.steps or source.steps(options.epochs),
        minutes=options.minutes,
        warmup=options.warmup,
        shape=options.schedule,
        decay=options.decay,
        bias_rate=bias_rate,
        seed=options.seed,
        save_steps=options.save_steps,
        save_seconds=options.save_seconds,
        evaluate_steps=options.evaluate_steps,
    )
    trainer = Trainer(
        network,
        Optimizer(((name, p) for name, p in network.named_parameters() if p.requires_grad), rule),
        source,
        plan,
        Saves(folder, world, keep=options.keep),
        Log(folder / "log.jsonl"),
        world,
        evaluate=(lambda network: held_out(network, measured, length, world)) if measured else None,
    )
    if options.resume:
        trainer.restore()
    return Run(trainer, options, world)


def identify(options: argparse.Namespace, data: Sequence[Path], world: World) -> None:
    """Note what the run is, or see that it is still the one that was noted. Raises WrongUse."""
    folder = Path(options.out)
    hashes = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in data}
    if options.resume:
        noted: Mapping[str, str] = json.loads((folder / OPTIONS).read_text(encoding="utf-8"))["data"]
        for path, found in hashes.items():
            if noted.get(path) != found:
                raise WrongUse(f"{path} is not what it was when the run began")
    elif (folder / OPTIONS).exists():
        raise WrongUse(f"{folder} has a run already: go on with it (--resume {folder}), or choose another --out")
    world.meet()
    if world.first:
        folder.mkdir(parents=True, exist_ok=True)
        noted_now = {"options": vars(options) | {"resume": None}, "data": hashes}
        partial = folder / f"{OPTIONS}.part"
        partial.write_text(json.dumps(noted_now, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / OPTIONS)


def main(argv: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options = chosen(argv)
        size = parameters(read_config(options.base))
        placement = place(options.device, options.dtype, parameters=size, weights=options.weights)
        if options.dtype is None and options.lora is None and not quick_bfloat16(placement.device):
            placement = replace(placement, dtype=torch.float32)  # what learns lies there in float32 anyway
        spread(placement, size)
        if options.threads:
            torch.set_num_threads(options.threads)
        with opened(placement.device) as world:
            return train(options, world, placement.dtype)
    except (TrainingError, OSError, ValueError) as error:
        print(f"laguna: {error}", file=sys.stderr)
        return 1
    except (torch.OutOfMemoryError, MemoryError) as error:
        hint = "less at a time (--length), --recompute, or more processes"
        print(f"laguna: out of memory, which may take {hint}: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1


def train(options: argparse.Namespace, world: World, dtype: torch.dtype) -> int:
    def say(text: str) -> None:
        if world.first:
            print(text, flush=True)

    run = prepared(options, world, dtype)
    run.trainer.say = say
    learning = sum(parameter.numel() for parameter in run.trainer.network.parameters() if parameter.requires_grad)
    say(f"{learning:,} parameters learn, in {str(dtype).removeprefix('torch.')} products, on {world.size} process(es)")
    if run.trainer.count.step:
        say(f"going on: {run.trainer.described()}")
    if not run.trainer.run():
        say(f"stopped and saved; go on with: laguna train --resume {options.out}")
        return INTERRUPTED
    say(f"done: {run.finish()}")
    return 0
