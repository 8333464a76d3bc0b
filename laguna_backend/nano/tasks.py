"""Requests of the kinds laguna-nano is made for, each with the conversation that answers it.

A `Task` holds what the user says, the workspace, and the right tool calls; `play` runs the calls in the simulated
world and writes the conversation. Some phrasings are kept for evaluation (`Phrasings`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .names import Names
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
            if head == "exit_code: 0":
                return "The command is done.", "The command succeeded."
            if head.startswith("timed out"):
                return "The command is done.", "The command timed out."
            return (
                "The command is done.",
                f"The command failed with exit code {head.removeprefix('exit_code: ')}.",
            )


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


# Phrasings -------------------------------------------------------------------------------------------------

SHOW = """show {f}|show me {f}|open {f}|read {f}|display {f}|print {f}|cat {f}|view {f}|let me see {f}|what is in {f}
show the file {f}|show me the file {f}|show me the contents of {f}|print the contents of {f}|what does {f} contain
read the file {f}|open the file {f}|I want to see {f}|display the file {f}|can I see {f}|what's in {f}|see {f}
show the content of {f}|give me {f}|let me look at {f}|have a look at {f}|show what is in {f}|look at {f}|dump {f}
what is inside {f}|read me {f}|I need to see {f}|take a look at {f}|show me what is inside {f}|output {f}"""

LIST = """list {d}|list the files in {d}|list files in {d}|what is in the folder {d}|show the files in {d}|show the folder {d}
what files are in {d}|list the directory {d}|list the folder {d}|list the contents of {d}|show me the files in {d}
which files are in {d}|what does the directory {d} contain|show me the directory {d}|list everything in {d}
what files are there in {d}|show all files in {d}|give me the files in {d}|show the contents of the folder {d}|ls {d}
list what is in the directory {d}|which files does {d} have|show the directory {d}|what is in the {d} directory
what is in the {d} folder|list the {d} directory|list the {d} folder|show me the {d} folder|look into the folder {d}"""

LIST_ROOT = """list files|list the files|list all files|what files are here|show the files|show me the files|list the directory
what files are there|which files are here|what is in this directory|what is in this folder|list this folder
what is in the project|show all files|list everything|ls|list the current directory|show me all the files
list the files here|what is in the workspace|show the project files|list the files in this directory
what files do we have|show me what is here|list the workspace|which files do we have|list the project
what files are in this project|show the current folder|list the files of the project|what is in here"""

SEARCH = """search for {s}|find {s}|where is {s}|where is {s} used|where is {s} defined|grep {s}|grep for {s}|look for {s}
find where {s} is used|find where {s} is defined|search the code for {s}|find all uses of {s}|search {s}
which files contain {s}|which files mention {s}|which file defines {s}|find every {s}|show where {s} is used
where does {s} appear|where do we use {s}|find all mentions of {s}|search the project for {s}|find occurrences of {s}
find the definition of {s}|who uses {s}|look for {s} in the code|in which files is {s}|find usages of {s}
search for the text {s}|find the text {s}|search all files for {s}|where can I find {s}|locate {s}
show all uses of {s}|show me where {s} is defined|is there any {s}|which files use {s}|find the string {s}"""

CREATE = """create {f} with the text {t}|create a file {f} with the text {t}|create the file {f} with the text {t}
write {t} to {f}|write {t} into {f}|make a file {f} with the text {t}|create {f} containing {t}|put {t} into {f}
create a new file {f} with the text {t}|make {f} with the text {t}|create a file named {f} that says {t}
add a file {f} with the text {t}|create a file called {f} with the content {t}|save {t} to {f}|save {t} as {f}
create {f} with {t} in it|create a file {f} that contains {t}|make a new file {f} containing {t}|write {t} in {f}
create a file {f} with {t}|new file {f} with the text {t}|write the text {t} to the file {f}|put {t} in {f}
add a new file {f} that says {t}|create {f} and write {t} in it|make a file called {f} with {t} in it
store {t} in {f}|generate a file {f} with the content {t}|write a file {f} with the text {t}|create {f} with content {t}"""

EDIT = """replace {a} with {b} in {f}|rename {a} to {b} in {f}|change {a} to {b} in {f}|in {f} replace {a} with {b}
in {f} rename {a} to {b}|in {f} change {a} to {b}|in {f}, replace {a} with {b}|in {f}, rename {a} to {b}
replace {a} by {b} in {f}|substitute {a} with {b} in {f}|edit {f} and replace {a} with {b}|in {f}, change {a} to {b}
replace every {a} with {b} in {f}|replace all {a} with {b} in {f}|rename {a} into {b} in {f}|swap {a} for {b} in {f}
change every {a} to {b} in {f}|in the file {f} replace {a} with {b}|in the file {f} change {a} to {b}
replace {a} with {b} in the file {f}|rename {a} to {b} in the file {f}|change {a} into {b} in {f}|turn {a} into {b} in {f}
open {f} and replace {a} with {b}|open {f} and change {a} to {b}|edit {f}: replace {a} with {b}|edit {f}: {a} should be {b}
rename the function {a} to {b} in {f}|rename the variable {a} to {b} in {f}|rename the class {a} to {b} in {f}
replace the text {a} with {b} in {f}|update {f}: replace {a} with {b}|in {f} {a} should be called {b}
change the value {a} to {b} in {f}|replace the word {a} with {b} in {f}|replace {a} in {f} with {b}|rename {a} in {f} to {b}
change {a} in {f} to {b}|update {a} to {b} in {f}|set {a} to {b} in {f}|all {a} in {f} should become {b}"""

RUN = """run {c}|execute {c}|run the command {c}|execute the command {c}|run {c} and tell me the result|run {c} for me
run {c} and tell me if it passes|run {c} and report the result|run {c} in the shell|call {c}|try {c}|start {c}
what does {c} print|what is the output of {c}|run {c} and tell me what happens|run this command: {c}|run this: {c}
execute {c} and report|run {c} and show me the output|execute {c} in the shell|run {c} and see if it works
does {c} pass|does {c} work|check that {c} works|run {c} and tell me whether it works|please run {c} now
run {c} and tell me the exit code|use the shell to run {c}|run the shell command {c}|run {c} and check the result"""

RUN_TESTS = """run the tests|run all tests|run the test suite|run my tests|run the unit tests|do the tests pass|test the project
execute the tests|run tests|please test it|check if the tests pass|run its tests|run the tests and tell me if they pass"""

CANNOT_DO = """what is the weather in {w}|write a poem about {w}|who is the president of {w}|translate {w} into French
tell me a joke|what time is it|refactor the whole project|fix all bugs|fix the bug in {f}|explain how {f} works
write an essay about {w}|book a flight to {w}|send a mail to {w}|who are you|what is {d} plus {d}|how old are you
summarize {f}|optimize {f}|add tests for {f}|design a logo for {w}|what do you think about {w}|order a pizza
play some music|draw a picture of {w}|review my code|make {f} faster|write documentation for {f}|how do I cook {w}
convert {f} to rust|implement a parser for {w}|build me a website about {w}|what is the meaning of life|call my mother
add a feature for {w}|write a function that sorts {w}|deploy the project to {w}|explain {w} to me|why is the sky blue
teach me {w}|what is the capital of {w}|predict the stock price of {w}|solve this equation|buy {w}|remind me of {w}
rewrite {f} in go|how many people live in {w}|improve the design of {f}|port {f} to python|who won the game in {w}"""

GREETINGS = "hello|hi|hey|good morning|hello there|hi there|good evening|thanks|thank you|hey there|good day|greetings"

BEFORE = (
    "",
    "",
    "",
    "",
    "",
    "please ",
    "could you ",
    "can you ",
    "would you ",
    "can you please ",
    "now ",
    "I want you to ",
)
AFTER = ("", "", "", "", "", "", " please", ", please", " for me", " now", ", thanks")


class Phrasings:
    """The phrasings of one family, split into those for training and those for evaluation.

    Every third is kept for evaluation, if all its words occur in the others: a small model that never read English
    can be asked to understand a new sentence, not a new word.
    """

    def __init__(self, table: str) -> None:
        every = [form.strip() for row in table.splitlines() for form in row.split("|")]
        known = {word for index, form in enumerate(every) if index % 3 != 2 for word in form.split()}
        self.held_out = [form for form in every[2::3] if set(form.split()) <= known] or every[2:3]
        self.training = [form for form in every if form not in self.held_out]

    def draw(self, names: Names) -> str:
        return names.rng.choice(self.held_out if names.held_out else self.training)


PHRASINGS = {
    name: Phrasings(table)
    for name, table in {
        "show": SHOW,
        "list": LIST,
        "list_root": LIST_ROOT,
        "search": SEARCH,
        "create": CREATE,
        "edit": EDIT,
        "run": RUN,
        "run_tests": RUN_TESTS,
        "cannot": CANNOT_DO,
        "hello": GREETINGS,
    }.items()
}


def phrase(names: Names, family: str, **slots: str) -> str:
    """A request of `family` about `slots`, with the manners people have."""
    rng = names.rng
    form = PHRASINGS[family].draw(names)
    question = form.split(" ")[0] in (
        "what",
        "what's",
        "which",
        "where",
        "who",
        "does",
        "do",
        "is",
        "can",
        "how",
        "why",
        "in",
    )
    if not question and family != "hello":
        form = rng.choice(BEFORE) + form
    if family not in ("create", "hello") and not form.endswith("}"):
        form += rng.choice(AFTER)
    if rng.random() < 0.6:
        form = form[0].upper() + form[1:]
    text = form.format(**slots)
    if family == "create" or (text and not text[-1].isalnum() and text[-1] not in "'\"`"):
        return text
    if question and family != "edit":
        return text + rng.choice(("?", "?", ""))
    return text + rng.choice(("", "", "", ".")) if form.endswith("`") or family in ("hello", "list_root") else text


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
    text = names.phrase() if rng.random() < 0.75 else code_lines(names, 1)[0].strip() or names.identifier()
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
    if kind < 0.75:
        old, new = names.identifier(), names.identifier()
    elif kind < 0.88:
        old, new = names.value(), names.value()
    else:
        old, new = names.phrase().rstrip(".!?"), names.phrase().rstrip(".!?")
    if rng.random() < 0.15 and "_" in old:  # a name that shares most of itself with the old one
        new = old.rsplit("_", 1)[0] + "_" + names.word()
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
    slots = {"w": names.word(), "f": names.path(), "d": names.digits()}
    return Task("cannot", phrase(names, "cannot", **slots), World(surroundings(names)), ())


FAMILIES: dict[str, tuple[Callable[[Names], Task], float]] = {
    "show": (show, 1.0),
    "list": (list_files, 1.2),
    "search": (search, 1.0),
    "create": (create, 1.6),
    "edit": (edit, 2.2),
    "run": (run, 2.0),
    "cannot": (cannot, 0.9),
}


def draw(names: Names, families: Sequence[str] | None = None) -> Task:
    """A task of one of `families`, or of any in the proportions of training."""
    chosen = list(families or FAMILIES)
    weights = [FAMILIES[name][1] for name in chosen]
    make, _ = FAMILIES[names.rng.choices(chosen, weights)[0]]
    return make(names)
