"""A training run: steps until the plan is fulfilled, saved now and then, to be gone on with from any saved state.

A run is a function of its weights, its source, its plan and its seed: a run that was stopped, or killed and taken back
to its last state, has bit for bit the losses of one that never was, on the same machine and the same number of
processes. On another number it has them within rounding.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor

from .errors import Diverged
from .figures import Log, best_rate, described, forward_work, step_work
from .network import Network
from .optimizer import Optimizer
from .packing import Document, Pack, Source, groups, pack
from .saving import Saves
from .world import World

INTERRUPTED = 130
"""Exit status of a run that was interrupted and saved."""

Shape = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True)
class Plan:
    """How long a run goes on and how its rates rise and fall. One of `steps` and `minutes` (of training) is set."""

    steps: int | None = None
    minutes: float | None = None
    warmup: int = 50
    """Steps in which the rates rise."""
    shape: Shape = "linear"
    decay: float = 0.3
    """Share of the run, at its end, in which the rates fall to nothing."""
    bias_rate: float = 0.0
    """How far a router's bias moves each step towards experts that get too little (arXiv 2408.15664)."""
    seed: int = 0
    save_steps: int | None = None
    save_seconds: float | None = 600.0
    evaluate_steps: int | None = None
    """Steps between evaluations; they are made at each save without it, and at the end."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("a run has either a number of steps or of minutes")
        if (self.steps or 0) < 0 or (self.minutes or 0.0) < 0 or not 0 <= self.decay <= 1 or self.warmup < 0:
            raise ValueError("a run's steps, minutes, warm-up and decay are not below 0, and decay is a share")

    def scale(self, step: int, progress: float) -> float:
        """What multiplies the rates at a step, `progress` (0 to 1) into the run."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.shape == "constant" or not self.decay:
            return rise
        left = min(1.0, max(0.0, (1 - progress) / self.decay))
        return min(rise, left if self.shape == "linear" else (1 - math.cos(math.pi * left)) / 2)


@dataclass
class Count:
    """How far a run is."""

    step: int = 0
    tokens: int = 0
    learnt: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    """A running mean."""


@dataclass
class Trainer:
    """One run. `evaluate` measures the network as it is; its figures go to the log."""

    network: Network
    optimizer: Optimizer
    source: Source
    plan: Plan
    saves: Saves
    log: Log
    world: World
    evaluate: Callable[[Network], Mapping[str, Any]] | None = None
    say: Callable[[str], None] = print
    say_every: float = 20.0
    count: Count = field(default_factory=Count)

    def __post_init__(self) -> None:
        self.best = best_rate(self.world.device, self.network.dtype)
        self.saved: int | None = None
        self.evaluated: int | None = None

    def __repr__(self) -> str:
        return f"<Trainer at step {self.count.step}, loss {self.count.loss:.4f}>"

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        if self.plan.steps is not None:
            return min(1.0, self.count.step / self.plan.steps) if self.plan.steps else 1.0
        return min(1.0, self.count.seconds / (60 * self.plan.minutes)) if self.plan.minutes else 1.0

    # Going on ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Every tensor that changes in the run: parameters that learn, routers' biases, the optimiser's memory."""
        trained = {f"parameters.{name}": p for name, p in self.network.named_parameters() if p.requires_grad}
        biases = {f"buffers.{name}": bias for name, bias in self.biases()} if self.plan.bias_rate else {}
        return trained | biases | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}

    def biases(self) -> list[tuple[str, Tensor]]:
        """The routers' biases [experts], in the order of the sparse layers."""
        return [(name, tensor) for name, tensor in self.network.named_buffers() if name.endswith("mlp.bias")]

    def save(self) -> None:
        if self.saved != self.count.step:
            facts = {"count": asdict(self.count), "source": dict(self.source.state())}
            self.saves.save(self.count.step, self.state(), facts)
            self.saved = self.count.step

    def restore(self) -> None:
        """Go back to the last saved state. Raises NoState."""
        facts = self.saves.load(self.state())
        self.count = Count(**facts["count"])
        self.source.restore(facts["source"])
        self.saved = self.count.step
        if self.world.first:
            self.log.cut(self.count.step)

    # The run -------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Train until the plan is fulfilled (True) or somebody interrupts (False); the state is saved in either case.

        Raises Diverged.
        """
        last_save = last_word = time.monotonic()
        with interruptible() as interrupted:
            while self.progress < 1.0:
                packs = self.source.step(self.progress)
                if not packs:
                    break
                self.step(packs)
                now = time.monotonic()
                late = self.plan.save_seconds is not None and now - last_save > self.plan.save_seconds
                late, stop = self.world.any(late, interrupted())
                if self.world.first and now - last_word > self.say_every:
                    self.say(self.described())
                    last_word = now
                if stop:
                    self.save()
                    return False
                save = late or due(self.count.step, self.plan.save_steps)
                if due(self.count.step, self.plan.evaluate_steps) or (save and self.plan.evaluate_steps is None):
                    self.measure()
                if save:
                    self.save()
                    last_save = time.monotonic()
        self.measure()
        self.save()
        return True

    def step(self, packs: Sequence[Pack]) -> None:
        """One step over all processes' packs."""
        begun = time.perf_counter()
        count, scale = self.count, self.plan.scale(self.count.step, self.progress)
        # What a step draws (dropout) hangs on nothing that came before, so there is no generator's state to save.
        torch.manual_seed((self.plan.seed * 1_000_003 + count.step) * 4096 + self.world.rank)
        weight = sum(pack.weight for pack in packs)
        if not weight:
            raise ValueError(f"step {count.step}: there is nothing to learn in its packs")
        self.network.train()
        sums = torch.zeros(2, dtype=torch.float64, device=self.world.device)
        loads: list[Tensor] = []
        for mine in self.world.share(packs):
            losses = self.network(mine.to(self.world.device))
            torch.autograd.backward(losses.total / weight)
            sums += torch.stack((losses.total.detach().double(), losses.right.double()))
            # Silent packs are there for the others' sake; their tokens are another process's.
            counted = losses.loads if mine.weight else [torch.zeros_like(load) for load in losses.loads]
            loads = [a + b for a, b in zip(loads, counted, strict=True)] if loads else counted
        total, right = self.world.total(sums).tolist()
        loss = total / weight
        self.finite(loss, "the loss")
        gradient = self.optimizer.clipped()
        self.finite(gradient, "the gradient")
        self.optimizer.step(scale)
        busiest = self.balance(loads)
        # Every process goes by the first one's clock, or they would not stop at the same step.
        seconds = time.perf_counter() - begun
        if self.world.mesh:
            seconds = float(
                self.world.total(torch.tensor(seconds if self.world.first else 0.0, device=self.world.device))
            )
        learnt = sum(int((pack.weights >= 1).sum()) for pack in packs)
        tokens = sum(len(pack.tokens) for pack in packs)
        self.count = Count(
            count.step + 1,
            count.tokens + tokens,
            count.learnt + learnt,
            count.seconds + seconds,
            loss if math.isnan(count.loss) else 0.98 * count.loss + 0.02 * loss,
        )
        if self.world.first:
            rated = sum(
                forward_work(self.network.config, pack.lengths, int(pack.weights.count_nonzero())) for pack in packs
            )
            work = step_work(rated, frozen=self.network.lora is not None)
            self.log.write(
                step=self.count.step,
                loss=loss,
                accuracy=right / max(learnt, 1),
                tokens=tokens,
                learnt=learnt,
                scale=scale,
                gradient=gradient,
                busiest=busiest,
                seconds=round(seconds, 6),
                tokens_per_second=round(tokens / seconds, 1),
                utilisation=round(work / seconds / (self.best * self.world.size), 4),
            )

    def finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            self.optimizer.forget()
            states = self.saves.whole()
            kept = f"the last good state is {states[0]}" if states else "nothing was saved before"
            raise Diverged(f"{what} is {value} at step {self.count.step}: {kept}")

    @torch.no_grad()
    def balance(self, loads: Sequence[Tensor]) -> float:
        """Move the routers' biases towards experts that got too little; gives back the load of the busiest expert over
        the mean, in the layer where that is most."""
        if not loads:
            return 1.0
        load = self.world.total(torch.stack(list(loads))).float()  # [sparse layers, experts]
        mean = load.mean(dim=-1, keepdim=True)
        if self.plan.bias_rate:
            for (_, bias), row in zip(self.biases(), (mean - load).sign(), strict=True):
                bias.add_(row, alpha=self.plan.bias_rate)
        return round(float((load / mean).max()), 4)

    def measure(self) -> None:
        """Evaluate, unless it was just done."""
        if self.evaluate is None or self.evaluated == self.count.step:
            return
        self.evaluated = self.count.step
        figures = self.evaluate(self.network)
        if self.world.first:
            self.log.write(step=self.count.step, **{f"held_out_{name}": value for name, value in figures.items()})
            self.say(f"{self.described()}\n  held out: {described(figures)}")

    def described(self) -> str:
        count = self.count
        pace = count.tokens / max(count.seconds, 1e-9)
        return (
            f"step {count.step}  {count.tokens / 1e6:.2f}M tokens  {pace:.0f} tok/s  loss {count.loss:.4f}  "
            f"rate x{self.plan.scale(count.step, self.progress):.2f}  {100 * self.progress:.1f} %"
        )


def due(step: int, every: int | None) -> bool:
    return bool(every) and step % (every or 1) == 0


@contextmanager
def interruptible() -> Generator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM has come, to be asked between steps. A second one does what it always does."""
    come: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        come.append(number)
        signal.signal(number, before[number])

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread, which alone may ask for signals
        pass
    try:
        yield lambda: bool(come)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@torch.no_grad()
def held_out(network: Network, documents: Sequence[Document], length: int, world: World) -> dict[str, float]:
    """Loss and accuracy over the tokens to be said, and how fast that went. Every process takes its share."""
    network.eval()
    packs = [pack(group) for group in groups(documents, length)]
    begun = time.perf_counter()
    sums = torch.zeros(2, dtype=torch.float64, device=world.device)
    for mine in world.share(packs):
        losses = network(mine.to(world.device))
        sums += torch.stack((losses.total.double(), losses.right.double()))
    total, right = world.total(sums).tolist()
    learnt, tokens = sum(pack.weight for pack in packs), sum(len(pack.tokens) for pack in packs)
    return {
        "loss": total / learnt,
        "accuracy": right / learnt,
        "tokens": tokens,
        "tokens_per_second": round(tokens / (time.perf_counter() - begun), 1),
    }
