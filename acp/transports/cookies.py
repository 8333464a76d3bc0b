"""The cookies of one server, for as long as a client talks to it.

A client has to return them, over HTTP and WebSocket and when it connects again (transport RFD): by them a load balancer
knows which machine has the client's sessions. There is one endpoint, so `Domain` and `Path` decide nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from http.cookies import CookieError, Morsel, SimpleCookie

MOST_COOKIES = 50
LONGEST_COOKIE = 4096
"""Characters of a name and a value together."""


class Cookies:
    """What a server has set. One that is marked `Secure` is not returned in the clear."""

    def __init__(self) -> None:
        self._kept: dict[str, Morsel[str]] = {}

    def take(self, said: Iterable[str]) -> None:
        """Keep what `Set-Cookie` headers say. What cannot be read, and what is over the limits, is not kept."""
        for text in said:
            try:
                cookies = SimpleCookie(text)
            except CookieError:
                continue
            for name, cookie in cookies.items():
                self._kept.pop(name, None)
                if len(name) + len(cookie.coded_value) > LONGEST_COOKIE or _is_over(cookie):
                    continue
                if len(self._kept) >= MOST_COOKIES:
                    del self._kept[next(iter(self._kept))]
                self._kept[name] = cookie

    def copy(self) -> Cookies:
        """The same, to go on from by itself."""
        cookies = Cookies()
        cookies._kept = dict(self._kept)
        return cookies

    def headers(self, *, secure: bool) -> dict[str, str]:
        """The header that returns them; none where there are none."""
        told = [f"{n}={cookie.coded_value}" for n, cookie in self._kept.items() if secure or not cookie["secure"]]
        return {"cookie": "; ".join(told)} if told else {}


def _is_over(cookie: Morsel[str]) -> bool:
    """Whether a cookie was set in order to be forgotten (RFC 6265 5.2.1, 5.2.2)."""
    if age := cookie["max-age"]:
        return not age.isdecimal() or int(age) == 0
    if not cookie["expires"]:
        return False
    try:
        return parsedate_to_datetime(cookie["expires"]).timestamp() <= time.time()
    except (ValueError, OverflowError):
        return False
