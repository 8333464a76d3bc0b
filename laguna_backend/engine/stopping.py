"""Texts that end an answer, found across the edges of tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from .request import Step


class StopTexts:
    """Holds back the steps whose text may be the beginning of a text to stop at, and cuts off what is one."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = {text.encode("utf-8", "replace"): text for text in texts}
        self.held: deque[Step] = deque()
        self.tail = b""  # the text of those held
        self.found: str | None = None

    def feed(self, step: Step) -> list[Step]:
        """The steps that are decided. Once `found` is set they are the last ones, without the text and what is after
        it."""
        if not self.texts:
            return [step]
        self.held.append(step)
        self.tail += step.text
        ends = [(at + len(text), at, text) for text in self.texts if (at := self.tail.find(text)) >= 0]
        if ends:  # of several the one that was complete first, however the text was cut into tokens
            _, at, text = min(ends)
            self.found = self.texts[text]
            return self.cut(at)
        return self.release(len(self.tail) - self.undecided())

    def finish(self) -> list[Step]:
        """All that is held: nothing more comes."""
        return self.release(len(self.tail))

    def undecided(self) -> int:
        """Length of the longest end of the text that begins one to stop at."""
        longest = max(map(len, self.texts)) - 1
        for size in range(min(len(self.tail), longest), 0, -1):
            end = self.tail[-size:]
            if any(text.startswith(end) for text in self.texts):
                return size
        return 0

    def release(self, size: int) -> list[Step]:
        """The steps whose text lies wholly in the first `size` bytes held."""
        free: list[Step] = []
        while self.held and len(self.held[0].text) <= size:
            step = self.held.popleft()
            size -= len(step.text)
            self.tail = self.tail[len(step.text) :]
            free.append(step)
        return free

    def cut(self, size: int) -> list[Step]:
        """All steps held, with the first `size` bytes of their text."""
        steps: list[Step] = []
        for step in self.held:
            kept = step.text[: max(size, 0)]
            size -= len(step.text)
            steps.append(step if kept == step.text else replace(step, text=kept, cut=True))
        self.held.clear()
        self.tail = b""
        return steps
