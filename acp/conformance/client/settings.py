"""How a client is driven."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How a client is driven.

    `timeout` bounds each wait in seconds, `startup_timeout` the start of the client and its first message (default:
    `timeout`), `test_timeout` a whole check (default: three times the longer). `turn` is the prompt that the checks are
    about (a client may go through several), and `linger` how long a client is listened to after its turn; `jobs`
    clients run at once. Without `interrupt` a client cancels a turn by itself once it has begun; else SIGINT makes it.
    """

    version: int = 1
    timeout: float = 10.0
    startup_timeout: float | None = None
    test_timeout: float | None = None
    linger: float = 1.0
    cwd: str | None = None
    turn: int = 1
    interrupt: bool = True
    jobs: int = 1

    @property
    def startup(self) -> float:
        return self.timeout if self.startup_timeout is None else self.startup_timeout

    @property
    def watchdog(self) -> float:
        return 3 * max(self.timeout, self.startup) if self.test_timeout is None else self.test_timeout
