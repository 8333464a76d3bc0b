"""A simulated workspace: files in memory, and tools that answer word for word as the agent's real ones do.

Training needs a hundred thousand conversations, so the tools are played here instead of run. A test asks the real
tools the same questions and compares (`tests/laguna_backend/test_nano_world.py`).
"""

from __future__ import annotations

import difflib
import posixpath
import random
from dataclasses import dataclass, field
from fnmatch import fnmatch

from .names import Names


@dataclass
class World:
    """Files by relative path; `commands` says what a shell command prints and how it exits."""

    files: dict[str, str]
    commands: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    folders: set[str] = field(default_factory=set[str])
    rejects: bool = False
    known: set[str] = field(default_factory=set[str])

    def call(self, name: str, arguments: dict[str, object]) -> str:
        """What the tool `name` returns to the model."""
        texts = {key: value for key, value in arguments.items() if isinstance(value, str)}
        match name:
            case "read":
                return self.read(clean(texts["path"]))
            case "list_directory":
                return self.list_directory(clean(texts.get("path", ".")))
            case "grep":
                return self.grep(texts["pattern"])
            case "glob":
                return self.glob(texts["pattern"])
            case "edit":
                old, new = texts["old_string"], texts["new_string"]
                return self.edit(clean(texts["path"]), old, new, bool(arguments.get("replace_all")))
            case "write":
                return self.write(clean(texts["path"]), texts["content"])
            case "shell":
                return self.shell(texts["cmd"])
            case _:
                return f"error: unknown tool {name}"

    def is_folder(self, path: str) -> bool:
        return path == "." or path in self.folders or any(name.startswith(path + "/") for name in self.files)

    def read(self, path: str) -> str:
        if self.is_folder(path):
            return f"error: {path} is a directory; use list_directory"
        if path not in self.files:
            return f"error: {path} does not exist"
        self.known.add(path)
        lines = self.files[path].splitlines()
        return "\n".join(f"{number}\t{line}" for number, line in enumerate(lines, 1)) or "(empty file)"

    def list_directory(self, path: str) -> str:
        if path in self.files:
            return f"error: {path} is not a directory; use read"
        if not self.is_folder(path):
            return f"error: {path} does not exist"
        prefix = "" if path == "." else path + "/"
        names = {name[len(prefix) :] for name in [*self.files, *self.folders] if name.startswith(prefix)}
        entries: set[str] = set()
        for name in names:
            head, slash, _ = name.partition("/")
            entries.add(head + "/" if slash or prefix + head in self.folders else head)
        return "\n".join(sorted(entries)) or "(empty directory)"

    def grep(self, pattern: str) -> str:
        hits = [
            f"{path}:{number}:{line}"
            for path in sorted(self.files)
            for number, line in enumerate(self.files[path].splitlines(), 1)
            if pattern in line
        ]
        return "\n".join(hits) or f"no matches for {pattern}"

    def glob(self, pattern: str) -> str:
        hits = [path for path in sorted(self.files) if fnmatch(path, pattern)]
        return "\n".join(hits) or f"no files match {pattern}"

    def edit(self, path: str, old: str, new: str, replace_all: bool) -> str:
        if path not in self.files:
            return f"error: {path} does not exist"
        if path not in self.known:
            return f"error: read {path} before editing it"
        before = self.files[path]
        count = before.count(old)
        if count == 0:
            return f"error: old_string was not found in {path}"
        if count > 1 and not replace_all:
            return f"error: old_string occurs {count} times in {path}; add surrounding lines or set replace_all"
        if self.rejects:
            return "error: the user rejected this call"
        after = before.replace(old, new)
        self.files[path] = after
        hunks = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=3, lineterm=""))[2:]
        plural = "replacement" if count == 1 else "replacements"
        return "\n".join([f"edited {path}: {count} {plural}", *hunks])

    def write(self, path: str, content: str) -> str:
        if self.is_folder(path):
            return f"error: {path} is a directory; use list_directory"
        if path in self.files and path not in self.known:
            return f"error: {path} exists; read it before overwriting it"
        if self.rejects:
            return "error: the user rejected this call"
        verb = "overwrote" if path in self.files else "created"
        self.files[path] = content
        self.known.add(path)
        count = len(content.splitlines())
        return f"{verb} {path} ({count} {'line' if count == 1 else 'lines'})"

    def shell(self, command: str) -> str:
        if self.rejects:
            return "error: the user rejected this call"
        code, output = self.commands.get(command, (127, f"bash: line 1: {command}: command not found"))
        output = output.rstrip("\n")
        return f"exit_code: {code}\n{output}" if output else f"exit_code: {code}"


def clean(path: str) -> str:
    """A path as the tools name it: relative to the workspace, without `./`."""
    return posixpath.normpath(path)


def code_lines(names: Names, count: int, mention: str | None = None) -> list[str]:
    """Lines of a made-up program, configuration or text; `mention` stands in some of them."""
    rng = names.rng
    spots = set(rng.sample(range(count), min(count, rng.choice((1, 1, 2, 3))))) if mention else set[int]()
    return [line(names, mention if number in spots else None) for number in range(count)]


def line(names: Names, mention: str | None = None) -> str:
    """One line; with `mention` in it where one is given."""
    rng = names.rng
    name = mention or names.identifier()
    other, value = names.identifier(), names.value()
    forms = (
        f"def {name}({other}):",
        f"    return {name}",
        f"    {other} = {name}({value})",
        f"{name} = {value}",
        f"{name}: {value}",
        f'    "{name}": "{value}",',
        f"from {names.word()} import {name}",
        f"import {name}",
        f"# {names.phrase()} {name}",
        f"    if {name} == {value}:",
        f"- {names.phrase()} {name}",
        f"{names.phrase()} {name} {names.word()}",
        f"    self.{name} = {other}",
        f"class {name}:",
        f"{name}",
        f"const {name} = {other}.{names.word()}();",
    )
    if mention is None and rng.random() < 0.15:
        return ""
    return rng.choice(forms)


def random_files(names: Names, count: int, longest: int) -> dict[str, str]:
    """A few files with made-up contents."""
    return {
        clean(names.path()): "\n".join(code_lines(names, names.rng.randint(1, longest))) + "\n" for _ in range(count)
    }


def random_output(rng: random.Random, names: Names) -> str:
    """What a command might print."""
    kind = rng.random()
    if kind < 0.25:
        return ""
    if kind < 0.6:
        return "\n".join(line(names) for _ in range(rng.randint(1, 6)))
    if kind < 0.8:
        seconds = f"{rng.random():.2f}"
        return f"{rng.choice('.F')}{'.' * rng.randint(1, 20)}\n{rng.randint(1, 99)} passed in {seconds}s"
    if kind < 0.9:
        name = f"test_{names.word()}"
        trace = f'Traceback (most recent call last):\n  File "/{names.path()}", line {rng.randint(1, 400)}, in {name}'
        head = rng.choice((f"ERROR: {names.word()}.{name}", f"FAIL: {name} ({names.word()}.{name})"))
        return f"{rng.choice('EF')}{'.' * rng.randint(0, 5)}\n{'=' * 70}\n{head}\n{'-' * 70}\n{trace}"
    count, verdict = rng.randint(1, 40), rng.choice(("OK", "FAILED (failures=1)"))
    return f"{'.' * count}\n{'-' * 70}\nRan {count} tests in 0.{rng.randint(0, 999):03d}s\n\n{verdict}"
