"""Transformers and llama.cpp on the weights of `laguna bench`. Neither is a dependency: both are imported by name."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..checkpoint.gguf_writer import write_gguf
from ..checkpoint.weights import released
from .timing import timed

if TYPE_CHECKING:
    from ..model.forward import Weights
    from .slice import Figures


class Unavailable(RuntimeError):
    """A peer that is not installed."""


def peer(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} is not installed") from error


# Transformers --------------------------------------------------------------------------------------------


def transformers_figures(
    raw: Mapping[str, Any], weights: Weights, *, precision: str, threads: int, context: int, prompt: int, steps: int,
    runs: int, clock: str,
) -> list[Figures]:  # fmt: skip
    """Transformers in bfloat16 on the very same memory, with each of its ways to run experts."""
    from .slice import figures

    device = weights.embed.device
    transformers = peer("transformers")
    config = transformers.LagunaConfig(**{k: v for k, v in raw.items() if k not in ("model_type", "architectures")})
    found: list[Figures] = []
    for experts in ("eager", "grouped_mm"):
        with torch.device("meta"):
            config._experts_implementation = experts
            model = transformers.LagunaForCausalLM(config)
        model.load_state_dict(renamed(weights), assign=True, strict=False)
        if hasattr(model, "set_experts_implementation"):
            model.set_experts_implementation(experts)
        model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)  # its buffers were made on meta
        model.eval()
        ids = torch.arange(prompt, device=device)[None] % raw["vocab_size"]
        with torch.inference_mode():

            def prefill(model: Any = model, ids: Any = ids) -> None:
                model(ids, use_cache=True, logits_to_keep=1)

            pace = prompt / statistics.median(timed(prefill, runs, clock, device))
            cache = transformers.DynamicCache(config=config)
            generator = torch.Generator(device).manual_seed(1)
            shape = (1, raw["num_key_value_heads"], context, raw["head_dim"])
            for layer in range(raw["num_hidden_layers"]):
                k, v = (torch.randn(shape, generator=generator, device=device).bfloat16() for _ in range(2))
                cache.update(k, v, layer)
            token = torch.tensor([[5]], device=device)

            def step(model: Any = model, cache: Any = cache, token: Any = token) -> None:
                token.copy_(model(token, past_key_values=cache, use_cache=True).logits[0, -1].argmax())

            seconds = timed(step, steps, clock, device)
        found.append(figures(f"transformers {transformers.__version__}, bf16, {experts}", pace, seconds))
    return found


def renamed(weights: Weights) -> dict[str, Any]:
    """Our tensors under transformers' names; nothing is copied."""
    state: dict[str, Any] = {}
    for name, tensor in released(weights):
        if ".mlp.experts." not in name or name.endswith("bias"):
            name = name.replace("mlp.experts.e_score", "mlp.gate.e_score").replace("shared_expert.", "shared_experts.")
            state[name] = tensor
    for index, layer in enumerate(weights.layers):
        mlp: Any = layer.mlp
        if hasattr(mlp, "router"):
            state[f"model.layers.{index}.mlp.experts.gate_up_proj"] = mlp.gate_up
            state[f"model.layers.{index}.mlp.experts.down_proj"] = mlp.down
    return state


# llama.cpp -----------------------------------------------------------------------------------------------

FILE_TYPES = {"bf16": ("BF16", 32), "int8": ("Q8_0", 7), "int4": ("Q4_K_M", 15)}
"""Our precision → llama.cpp's nearest, and its number among llama_ftype."""


def llama_figures(
    raw: Mapping[str, Any], weights: Weights, *, precision: str, threads: int, context: int, prompt: int, steps: int,
    runs: int, clock: str,
) -> list[Figures]:  # fmt: skip
    """llama.cpp through llama-cpp-python, in a process of its own, on a GGUF file without a vocabulary."""
    from .slice import figures

    if importlib.util.find_spec("llama_cpp") is None:
        raise Unavailable("llama-cpp-python is not installed")
    with tempfile.TemporaryDirectory(prefix="laguna-bench-") as folder:
        path = write_gguf(Path(folder) / "model.gguf", raw, weights)
        order = {
            "path": str(path), "ftype": FILE_TYPES[precision][1] if precision != "bf16" else None,
            "threads": threads, "context": context, "prompt": prompt, "steps": steps, "runs": runs, "clock": clock,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", __name__, json.dumps(order)],
            capture_output=True, text=True, timeout=1800, env=os.environ, check=False,
        )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"llama.cpp failed: {done.stderr.strip().splitlines()[-1:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    name = f"llama.cpp ({answer['version']}), {FILE_TYPES[precision][0]}"
    return [figures(name, answer["prefill"], answer["seconds"])]


def run_llama(order: Mapping[str, Any]) -> dict[str, Any]:
    """In the process of its own: load, prefill, then one token at a time after `context` of them."""
    llama: Any = peer("llama_cpp")
    llama.llama_backend_init()
    path = order["path"]
    if order["ftype"] is not None:
        params = llama.llama_model_quantize_default_params()
        params.ftype, params.nthread = order["ftype"], order["threads"]
        smaller = f"{path}.small"
        if llama.llama_model_quantize(path.encode(), smaller.encode(), ctypes.byref(params)):
            raise RuntimeError("llama_model_quantize failed")
        Path(path).unlink()
        path = smaller
    model_params = llama.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(path.encode(), model_params)
    params = llama.llama_context_default_params()
    params.n_ctx = max(order["context"], order["prompt"]) + order["steps"] + 64
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = order["threads"]
    context = llama.llama_init_from_model(model, params)
    if not model or not context:
        raise RuntimeError("the model was not loaded")

    def feed(count: int) -> None:
        for start in range(0, count, 512):
            many = min(512, count - start)
            tokens = (llama.llama_token * many)(*((7 * (start + i) + 5) % 500 for i in range(many)))
            if llama.llama_decode(context, llama.llama_batch_get_one(tokens, many)):
                raise RuntimeError("llama_decode failed")

    def clear() -> None:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)

    def prefill() -> None:
        clear()
        feed(order["prompt"])

    pace = order["prompt"] / statistics.median(timed(prefill, order["runs"], order["clock"]))
    clear()
    feed(order["context"])
    seconds = timed(lambda: feed(1), order["steps"], order["clock"])
    return {"prefill": pace, "seconds": seconds, "version": getattr(llama, "__version__", "?")}


if __name__ == "__main__":
    print(json.dumps(run_llama(json.loads(sys.argv[1]))))
