"""Requests of the kinds laguna-nano is made for, each with the conversation that answers it.

A `Task` holds what the user says, the workspace, and the right tool calls; `play` runs the calls in the simulated
world and writes the conversation. Paths are given to the tools as the user spelled them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .names import EXTENSIONS, Names
from .phrasings import BEFORE, PHRASINGS, phrase
from .world import World, code_lines, random_files, random_output

Call = tuple[str, dict[str, object]]


@dataclass(frozen=True)
class Task:
    """A request in a workspace. `calls` are the right ones; `answers` one of which the last text must start with."""

    family: str
    prompt: str
    world: World
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Step:
    """What the assistant says in one step, and what the tool then returned."""

    thought: str
    text: str = ""
    call: Call | None = None
    response: str = ""


CANNOT = (
    "Sorry, I am a small model and cannot do that. I can show, list, search, create and edit files, and run commands."
)
HELLO = "Hello! I can show, list, search, create and edit files, and run commands."

PLAN = {
    "read": "I should read the file.",
    "list_directory": "I should list the directory.",
    "grep": "I should search for it.",
    "write": "I should write the file.",
    "edit": "Now I can edit it.",
    "shell": "I should run the command.",
}


def play(task: Task) -> list[Step]:
    """The whole conversation: each call with its result, and the answer that fits the last result."""
    steps: list[Step] = []
    response = ""
    for name, arguments in task.calls:
        thought = "I should read the file first." if task.family == "edit" and name == "read" else PLAN[name]
        response = task.world.call(name, arguments)
        steps.append(Step(thought, call=(name, arguments), response=response))
        if response.startswith("error: "):
            break
    if not steps:
        hello = task.family == "hello"
        return [Step("The user greets me." if hello else "I cannot do that.", HELLO if hello else CANNOT)]
    last = steps[-1].call
    assert last is not None
    steps.append(Step(*closing(last[0], response)))
    return steps


def closing(tool: str, response: str) -> tuple[str, str]:
    """The thought and the answer after the last result."""
    if response.startswith("error: "):
        return "That did not work.", trouble(tool, response)
    head = response.split("\n", 1)[0]
    match tool:
        case "read":
            return "I have the file.", "The file is empty." if head == "(empty file)" else "Here is the file."
        case "list_directory":
            empty = head == "(empty directory)"
            return "I have the list.", "The directory is empty." if empty else "Here are the files."
        case "grep":
            none = head.startswith("no matches for ")
            return "I have the result.", "There are no matches." if none else "Here are the matches."
        case "edit":
            count = head.rsplit(": ", 1)[1].split(" ")[0]
            return "The edit is done.", f"Done: {count} {'replacement' if count == '1' else 'replacements'}."
        case "write":
            return "The file is written.", "Done: the file is created."
        case _:
            if head.startswith("timed out"):
                return "The command is done.", "The command timed out."
            code = head.removeprefix("exit_code: ")
            thought = f"The exit code is {code}."
            return thought, "The command succeeded." if code == "0" else f"The command failed with exit code {code}."


def trouble(tool: str, response: str) -> str:
    """The answer to a failed call."""
    head = response.split("\n", 1)[0]
    if head.endswith("does not exist"):
        return "That directory does not exist." if tool == "list_directory" else "That file does not exist."
    if "is a directory" in head:
        return "That is a directory, not a file."
    if "is not a directory" in head:
        return "That is a file, not a directory."
    if "was not found" in head:
        return "I could not find that text in the file."
    if "rejected" in head:
        return "You rejected the call, so nothing was changed."
    if "before overwriting" in head:
        return "That file already exists, so I left it alone."
    if "outside the workspace" in head:
        return "That path is outside the workspace."
    if "binary file" in head:
        return "That is a binary file."
    return "Sorry, that did not work."


def quoted(rng: random.Random, text: str, *, always: bool = False) -> str:
    """`text` as people write a name in a sentence: bare or in quotes."""
    mark = rng.choice(("`", '"', "'", "`")) if always or rng.random() < 0.45 else ""
    return f"{mark}{text}{mark}"


# Families --------------------------------------------------------------------------------------------------


def surroundings(names: Names) -> dict[str, str]:
    return random_files(names, names.rng.randint(0, 4), 6)


def length(names: Names, longest: int) -> int:
    """Lines of a file: short mostly, now and then long."""
    return names.rng.randint(1, longest) if names.rng.random() < 0.12 else names.rng.randint(1, 14)


def written(names: Names, path: str) -> str:
    """The path as the user spells it, and so as the model is to copy it."""
    return f"./{path}" if names.rng.random() < 0.04 else path


def show(names: Names) -> Task:
    files, path = surroundings(names), names.path()
    if names.rng.random() < 0.88:
        files[path] = "\n".join(code_lines(names, length(names, 70))) + "\n"
        if names.rng.random() < 0.04:
            files[path] = ""
    path = written(names, path)
    prompt = phrase(names, "show", f=quoted(names.rng, path))
    return Task("show", prompt, World(files), (("read", {"path": path}),))


def list_files(names: Names) -> Task:
    files = random_files(names, names.rng.randint(1, 8), 2)
    if names.rng.random() < 0.35:
        return Task("list", phrase(names, "list_root"), World(files), (("list_directory", {"path": "."}),))
    folder = names.folder()
    world = World(files)
    if names.rng.random() < 0.88:
        files |= {f"{folder}/{names.file_name()}": "" for _ in range(names.rng.randint(1, 12))}
    elif names.rng.random() < 0.5:
        world.folders.add(folder)
    spelled = folder + "/" if names.rng.random() < 0.15 else folder
    prompt = phrase(names, "list", d=quoted(names.rng, spelled))
    return Task("list", prompt, world, (("list_directory", {"path": spelled}),))


def search(names: Names) -> Task:
    rng = names.rng
    single = rng.random() < 0.85
    wanted = names.identifier() if single else names.phrase().rstrip(".!?")
    files = surroundings(names)
    if rng.random() < 0.82:
        for _ in range(rng.randint(1, 3)):
            files[names.path()] = "\n".join(code_lines(names, length(names, 30), wanted)) + "\n"
    prompt = phrase(names, "search", s=quoted(rng, wanted, always=not single))
    return Task("search", prompt, World(files), (("grep", {"pattern": wanted}),))


def create(names: Names) -> Task:
    rng, files, path = names.rng, surroundings(names), names.path()
    text = (
        names.phrase()
        if rng.random() < (0.75 if names.held_out else 0.6)
        else code_lines(names, 1)[0].strip() or names.identifier()
    )
    marks = [mark for mark in ("`", '"', "'") if mark not in text]
    mark = rng.choice(marks)
    bare = rng.random() < 0.2 and not set(text) - set("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    form = PHRASINGS["create"].draw(names)
    if bare and form.endswith("{t}"):
        mark = ""
    form = rng.choice(BEFORE) + form
    if rng.random() < 0.6:
        form = form[0].upper() + form[1:]
    world = World(files)
    if rng.random() < 0.06:
        files[path] = names.phrase() + "\n"
    world.rejects = rng.random() < 0.05
    path = written(names, path)
    prompt = form.format(f=quoted(rng, path), t=f"{mark}{text}{mark}")
    return Task("create", prompt, world, (("write", {"path": path, "content": text}),))


def edit(names: Names) -> Task:
    rng, files, path = names.rng, surroundings(names), names.path()
    kind = rng.random()
    if kind < (0.75 if names.held_out else 0.65):
        old, new = names.identifier(), names.identifier()
    elif kind < (0.88 if names.held_out else 0.78):
        old, new = names.value(), names.value()
    else:
        old, new = names.phrase().rstrip(".!?"), names.phrase().rstrip(".!?")
    parts = PART.findall(old) or [old]
    if rng.random() < (0.3 if names.held_out else 0.45) and len(parts) > 1:
        new = sibling(names, old)
    if rng.random() < 0.35 and " " not in old:  # and a file that is called after what is in it
        ending = rng.choice(("", "", "s", "s", f"_{names.word()}", rng.choice("aeiou")))
        path = f"{names.folder()}/" * (rng.random() < 0.7) + f"{rng.choice(parts)}{ending}.{rng.choice(EXTENSIONS)}"
    if new == old:
        new = old + "_" + names.word()
    spaced = " " in old + new
    if rng.random() < 0.92:
        mention = old if rng.random() < 0.93 else None
        files[path] = "\n".join(code_lines(names, length(names, 60), mention)) + "\n"
    mark = rng.choice(("`", '"', "'")) if spaced or rng.random() < 0.4 else ""
    path = written(names, path)
    slots = {"a": f"{mark}{old}{mark}", "b": f"{mark}{new}{mark}", "f": quoted(rng, path)}
    world = World(files, rejects=rng.random() < 0.05)
    arguments: dict[str, object] = {"path": path, "old_string": old, "new_string": new, "replace_all": True}
    return Task("edit", phrase(names, "edit", **slots), world, (("read", {"path": path}), ("edit", arguments)))


def sibling(names: Names, name: str) -> str:
    """A name or text that shares most of itself with `name`: one part is another, or is taken away, or comes to it."""
    rng, parts = names.rng, list(PART.finditer(name))
    part = rng.choice((parts[0], parts[-1], rng.choice(parts)))
    before, after, word = name[: part.start()], name[part.end() :], names.word()
    if part[0].isupper() and rng.random() < 0.6:
        word = word.upper()
    elif part[0][0].isupper() and rng.random() < 0.8:
        word = word.capitalize()
    kind = rng.random()
    if kind < 0.15:
        return (before + after).strip(" _-") or word
    if kind < 0.35:
        mark = next((char for char in " _-" if char in name), "_")
        return rng.choice((f"{name}{mark}{word}", f"{word}{mark}{name}"))
    return before + word + after


def run(names: Names) -> Task:
    rng = names.rng
    if rng.random() < 0.1:
        command, prompt = "python3 -m pytest -q", phrase(names, "run_tests")
    else:
        command = names.command()
        prompt = phrase(names, "run", c=quoted(rng, command, always=rng.random() < 0.35))
    code = (
        0 if rng.random() < 0.6 else rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 7, 101, 126, 127, 139, rng.randrange(1, 256)))
    )
    world = World(surroundings(names), {command: (code, random_output(rng, names))})
    world.rejects = rng.random() < 0.05
    return Task("run", prompt, world, (("shell", {"cmd": command}),))


def cannot(names: Names) -> Task:
    if names.rng.random() < 0.12:
        return Task("hello", phrase(names, "hello"), World(surroundings(names)), ())
    word = names.word()
    while word in COMMAND_WORDS:  # a phrasing may begin with it
        word = names.word()
    slots = {"w": word, "f": names.path(), "d": names.digits()}
    return Task("cannot", phrase(names, "cannot", **slots), World(surroundings(names)), ())


COMMAND_WORDS = {
    word for name, table in PHRASINGS.items() if name != "cannot" for form in table.training for word in form.split()
}

PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
"""A part of a name: `parse`, `Config`, `READY`, `2`."""

FAMILIES: dict[str, tuple[Callable[[Names], Task], float]] = {
    "show": (show, 1.0),
    "list": (list_files, 1.2),
    "search": (search, 1.0),
    "create": (create, 1.6),
    "edit": (edit, 3.0),
    "run": (run, 2.4),
    "cannot": (cannot, 0.9),
}


def draw(names: Names, families: Sequence[str] | None = None) -> Task:
    """A task of one of `families`, or of any in the proportions of training."""
    chosen = list(families or FAMILIES)
    weights = [FAMILIES[name][1] for name in chosen]
    make, _ = FAMILIES[names.rng.choices(chosen, weights)[0]]
    return make(names)
