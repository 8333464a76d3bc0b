"""`laguna eval DIR --data FILE`: how well a checkpoint, with or without an adapter, foretells conversations.

The last line is JSON: the mean loss of the tokens that the assistant said, its exponential, the share of them that were
the model's first choice, how many tokens went through it and how fast.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from ..chat.encoding import Chat
from ..checkpoint.adapter import adapt, read_adapter
from ..checkpoint.configuration import read_config
from ..checkpoint.weights import load_weights
from ..loading import chat_template, found, parameters, tokenizer_of
from ..model.device import place, spread
from .conversations import read_documents
from .errors import TrainingError
from .network import Network
from .trainer import held_out
from .world import World


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="laguna eval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path, metavar="DIR")
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--adapter", type=Path, metavar="DIR")
    parser.add_argument(
        "--length", type=int, default=4096, help="tokens at once: the longest conversation; default 4096"
    )
    parser.add_argument("--device", help="cuda, mps or cpu; default: the best there is")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"))
    given = parser.parse_args(argv)
    given.base = found(given.base)
    try:
        config = read_config(given.base)
        placement = place(given.device, given.dtype, parameters=parameters(config))
        spread(placement, parameters(config))
        chat = Chat(chat_template(given.base), tokenizer_of(given.base))
        length = min(given.length, config.max_context)
        documents = [one for path in given.data for one in read_documents(path, chat, longest=length)]
        weights = load_weights(given.base, config, device=placement.device, dtype=placement.dtype).weights
        if given.adapter:
            adapt(weights, read_adapter(given.adapter))
        network = Network(config, weights, dtype=placement.dtype)
        figures = held_out(network, documents, length, World(placement.device))
    except (TrainingError, OSError, ValueError) as error:
        print(f"laguna: {error}", file=sys.stderr)
        return 1
    print(json.dumps({**figures, "perplexity": math.exp(min(figures["loss"], 700.0))}))
    return 0
