"""The text in a file's bytes, and back without changing a byte that was not meant to change."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from ..action import ToolProblem


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's text. A byte order mark stays in front of the text; `text.encode(encoding)` is the file."""

    text: str
    encoding: str

    @property
    def is_crlf(self) -> bool:
        """Every line ends in CR LF, and there is at least one."""
        ends = self.text.count("\n")
        return ends > 0 and ends == self.text.count("\r\n")


def decode(data: bytes, shown: str) -> Decoded:
    """Raises `ToolProblem` for a binary file. What is not UTF-8 is read as Latin-1, which loses nothing."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16-le" if data.startswith(codecs.BOM_UTF16_LE) else "utf-16-be"
        try:
            return Decoded(data.decode(encoding), encoding)
        except UnicodeDecodeError as error:
            raise ToolProblem(f"{shown} is a binary file") from error
    if b"\0" in data:
        raise ToolProblem(f"{shown} is a binary file")
    try:
        return Decoded(data.decode(), "utf-8")
    except UnicodeDecodeError:
        return Decoded(data.decode("latin-1"), "latin-1")


def encode(text: str, encoding: str, shown: str) -> bytes:
    """Raises `ToolProblem` when the file's encoding has no such character."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        character = ascii(text[error.start])
        raise ToolProblem(f"{shown} is {encoding}, which cannot hold the character {character}") from error


def fit_line_ends(text: str, like: Decoded) -> str:
    """`text` with the line ends of a file that uses CR LF throughout."""
    return text.replace("\n", "\r\n") if like.is_crlf and "\r\n" not in text else text
