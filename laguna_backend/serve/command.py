"""`laguna serve`: listen, and serve until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Any

from acp_server.model import ModelError
from acp_server.network.admission import add_admission_options, address_of, admission_of
from acp_server.network.gate import Gate

from ..backend import GROUPS, PRECISIONS, STORAGES, LagunaBackend, open_backend

DEFAULT = "127.0.0.1:8000"
DRAIN = 10
"""Seconds that answers get to end when the server is stopped."""
HEAD_START = 32
"""Connections beyond those whose requests run or wait: they are told so, instead of being left outside."""

DESCRIPTION = """\
One Laguna for every program that speaks OpenAI's /v1: chat completions with tools, reasoning and streams, completions,
models. The URL is printed on stderr when the model is loaded.

By default only this machine gets in, and of it no web page. Without --token-file every user of this machine does. Off
this machine a token file and TLS are asked for, unless --insecure.
"""


def arguments(argv: Sequence[str]) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="laguna serve", description=DESCRIPTION, formatter_class=raw)
    add = parser.add_argument
    add("directory", nargs="?", metavar="DIR", help="a checkpoint, or ORG/NAME that was pulled; default: laguna-nano")
    add("--listen", default=DEFAULT, metavar="HOST:PORT", help="port 0 is any (default: %(default)s)")
    add("--name", help="what requests call the model; default: its own name")
    add_admission_options(parser)
    add("--device", help="cuda, mps or cpu; default: the best there is")
    add("--weights", choices=PRECISIONS, help="pack the weights on loading: int8 (CPU), fp8 (accelerators), int4")
    add("--group", choices=GROUPS, help="INT4's groups")
    add("--kv", choices=STORAGES, help="number format of the cache")
    add("--adapter", metavar="DIR", help="one that was trained for the checkpoint")
    add("--at-once", metavar="N", help="answers that are worked at together (default: 8)")
    add("--waiting", metavar="N", help="requests that may wait for that; more are told 429 (default: 64)")
    add("--cache-mib", metavar="N", help="memory of all caches")
    return parser, parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run the server; the exit status."""
    parser, given = arguments(argv)
    try:
        import uvicorn  # the extra `serve`

        from .app import Service
    except ModuleNotFoundError as error:
        parser.error(f"install acp-laguna[serve]: {error}")
    del uvicorn
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        host, port = address_of("--listen", given.listen)
        gate, _ = admission_of(given, [host])
        backend = open_backend(
            given.directory,
            **{name: getattr(given, name) for name in ("device", "weights", "group", "kv", "adapter")},
            **{name: getattr(given, name) for name in ("at_once", "waiting", "cache_mib")},
        )
    except ValueError as error:
        parser.error(str(error))
    return run(Service(backend, given.name), gate, given, host, port)


def run(service: Any, gate: Gate, given: argparse.Namespace, host: str, port: int) -> int:
    """Listen and serve; the exit status."""
    import uvicorn

    from .app import application
    from .patient import PatientProtocol

    failure = ""

    async def load() -> None:
        nonlocal failure
        try:
            await service.load()
        except ModelError as error:
            failure = str(error)
            raise

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                way, at = ("https" if given.tls_cert else "http"), self.servers[0].sockets[0].getsockname()
                name = f"[{host}]" if ":" in host else host
                print(f"laguna serve: {service.name} at {way}://{name}:{at[1]}/v1", file=sys.stderr, flush=True)

    backend: LagunaBackend = service.backend
    config = uvicorn.Config(
        application(service, gate, load, given.origin),
        host,
        port,
        ssl_certfile=given.tls_cert,
        ssl_keyfile=given.tls_key,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=backend.limits.running + backend.limits.waiting + HEAD_START,
        timeout_graceful_shutdown=DRAIN,
    )
    logging.getLogger("uvicorn.error").addFilter(lambda _: not failure)  # told once, and better
    server = Server(config)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more when it has ended, as it was asked to
    try:
        server.run()
    except SystemExit:  # uvicorn has logged why it cannot listen
        pass
    except KeyboardInterrupt:
        return 0
    if failure:
        print(f"laguna serve: {failure}", file=sys.stderr)
    return 0 if server.started else 1
