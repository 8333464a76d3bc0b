"""Names, paths, texts and commands to ask for, drawn from a seeded generator.

Words are split once into those that training may use and those kept for evaluation; random letter strings are new
every time. So no name of an evaluation task was ever seen whole in training.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from pathlib import Path

WORDS = """
account action active address agent alert alias amount anchor angle answer apply archive area array article asset
audio author auto backup badge balance banner base batch beacon billing binary blob block board body bonus book border
bottom branch bridge browser bucket budget buffer build bundle button byte cache calendar call camera cancel canvas card
cart catalog center chain change channel chapter chart chat check child choice circle class clean client clock clone
cloud cluster code codec color column command comment commit company compare compile config confirm connect console
contact container content context control convert cookie copy core count country coupon cover crash create credit cron
currency current cursor custom customer cycle daily dash data date deal debug decode deep default delay delete demo
deploy depth design detail device diagram dialog digest direct disk dispatch display document domain door download
draft draw driver drop duration dynamic early edge editor effect element email emit empty enable encode end engine entry
enum error escape event exact example except exchange execute exit expand export extra factor fail fast feature feed
fetch field figure file filter final find finish first fixture flag flat flight flow flush focus folder font footer
force form format forward frame free front function future game garden gate gateway general global grade grant graph
grid group guard guest guide handle hash head header health height helper hidden history home hook host hotel hour house
icon image import index info init inline inner input insert inside install invoice item iter job join journal json jump
kernel key label language large last launch layer layout lead leaf learn left length level library license light limit
line link list listen live load local lock logger login logout loop lower machine mail main manifest manual map margin
market mask master match matrix media member memory menu merge message meta method metric middle migrate minute mirror
mobile mode model module monitor month motion mount mouse move music name native nested network next node normal note
notice number object offer offset online open operator option order origin outer output owner pack package page paint
panel paper parent parse part partner pass patch path pattern pause payment peer pending people period permit person
phone photo picture pipe pixel place plain plan plane platform play player plugin point policy poll pool port post power
prefix preset press preview price primary print priority private process product profile program progress project prompt
proxy public publish pull push quality query queue quick quota quote random range rank rate ratio reader ready record
redirect reduce refresh region register release remote remove render repair repeat replace reply report request reset
resize resolve resource response result resume retry return review reward right role roll room root rotate route router
row rule runner sale sample save scale scan schedule schema scope score screen script scroll search season second secret
section secure select send sensor server service session setting setup shape share sheet shell ship shop short show sign
signal simple single site size skip slice slot small socket sort sound source space special speed split spot stack staff
stage start state static station status step stock stop storage store story stream street string stripe strong student
style submit subnet success sum summary super supply support swap switch symbol sync system table tag target task tax
team template term test text theme thread ticket time timer title toggle token tool topic total touch tour track trade
traffic train transfer travel tree trigger trip trust tuple tunnel type under union unique unit update upload upper urgent
url usage user utils valid value vector vendor verify version video view virtual visit voice wait wallet watch weather
web week weight wheel widget width window wire word work worker wrap write year young zone zoom
""".split()

EXTENSIONS = "py py py py js ts md txt json toml yaml yml cfg ini html css rs go c h java rb sh sql csv log xml".split()
FOLDERS = "src lib app docs test tests scripts config data tools pkg internal core api web assets utils common".split()
PIECES = [
    piece
    for piece in (Path(__file__).parent / "merges.txt").read_text(encoding="utf-8").replace(" ", "").splitlines()
    if piece.isascii() and piece.isalpha()
]
"""What the tokenizer's merges make of letters; training draws each of them by itself now and then."""
HELD_OUT = [word for word in WORDS[::5] if word not in PIECES]
TRAINING = [word for word in WORDS if word not in HELD_OUT]
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiouy"


@dataclass(frozen=True)
class Names:
    """Draws names with `rng`. `held_out` chooses the words kept for evaluation instead of those for training."""

    rng: random.Random
    held_out: bool = False

    def word(self) -> str:
        """A word of the list, pieces of words, or a pronounceable or arbitrary string."""
        kind = self.rng.random()
        if kind < 0.45:
            return self.rng.choice(HELD_OUT if self.held_out else TRAINING)
        if kind < 0.65:  # every piece of the vocabulary has to be copied now and then, or it cannot be
            return "".join(self.rng.choice(PIECES) for _ in range(self.rng.choice((1, 1, 2, 3))))
        if kind < 0.87:
            size = self.rng.randint(1, 3)
            return "".join(self.rng.choice(CONSONANTS) + self.rng.choice(VOWELS) for _ in range(size)) + (
                self.rng.choice(CONSONANTS) if self.rng.random() < 0.5 else ""
            )
        return "".join(self.rng.choice(string.ascii_lowercase) for _ in range(self.rng.randint(2, 7)))

    def digits(self) -> str:
        return str(self.rng.randrange(10 ** self.rng.randint(1, 4)))

    def identifier(self) -> str:
        """A name as programs have them: snake, camel, Pascal, CONSTANT, kebab or a single word."""
        parts = [self.word() for _ in range(self.rng.choice((1, 2, 2, 2, 3)))]
        if self.rng.random() < 0.12:
            parts.append(self.digits())
        style = self.rng.random()
        if style < 0.5:
            return "_".join(parts)
        if style < 0.65:
            return parts[0] + "".join(part.capitalize() for part in parts[1:])
        if style < 0.8:
            return "".join(part.capitalize() for part in parts)
        if style < 0.9:
            return "_".join(parts).upper()
        return "-".join(parts)

    def file_name(self) -> str:
        stem = self.word() if self.rng.random() < 0.5 else self.identifier()
        if self.rng.random() < 0.06:
            return stem.upper() if self.rng.random() < 0.5 else stem
        dotted = f"{stem}.{self.word()}" if self.rng.random() < 0.05 else stem
        return f"{dotted}.{self.rng.choice(EXTENSIONS)}"

    def folder(self) -> str:
        """A directory path of one to three parts."""
        parts = [
            self.rng.choice(FOLDERS) if self.rng.random() < 0.4 else self.word()
            for _ in range(self.rng.choice((1, 1, 2, 3)))
        ]
        return "/".join(parts)

    def path(self) -> str:
        """A relative file path of up to four parts."""
        name = self.file_name()
        return name if self.rng.random() < 0.4 else f"{self.folder()}/{name}"

    def phrase(self) -> str:
        """A few words of text."""
        words = [self.word() for _ in range(self.rng.randint(1, 6))]
        if self.rng.random() < 0.15:
            words[self.rng.randrange(len(words))] = self.digits()
        text = " ".join(words)
        if self.rng.random() < 0.4:
            text = text[0].upper() + text[1:]
        return text + self.rng.choice(("", "", "", ".", "!", "?"))

    def value(self) -> str:
        """A number, version, quoted string or word, as configuration files hold them."""
        kind = self.rng.random()
        if kind < 0.35:
            return self.digits()
        if kind < 0.5:
            return f"{self.rng.randrange(20)}.{self.rng.randrange(20)}.{self.rng.randrange(20)}"
        if kind < 0.6:
            return self.rng.choice(("true", "false", "True", "False", "None", "null"))
        return self.word()

    def command(self) -> str:
        """A shell command."""
        rng, kind = self.rng, self.rng.random()
        if kind < 0.35:
            return rng.choice(COMMANDS)
        if kind < 0.55:
            runner = rng.choice(
                ("python3", "python", "node", "bash", "sh", "ruby", "go run", "cat", "wc -l", "head -n 5")
            )
            return f"{runner} {self.path()}" + (f" --{self.word()}" if rng.random() < 0.3 else "")
        if kind < 0.7:
            return f"{rng.choice(('echo', 'printf', 'which', 'mkdir -p', 'touch', 'make', 'npm run', 'cargo'))} {self.word()}"
        if kind < 0.85:
            return f"python3 -m {self.word()}" + (f" {self.path()}" if rng.random() < 0.5 else "")
        return f"./{self.file_name()}" + (f" {self.word()}" if rng.random() < 0.5 else "")


COMMANDS = (
    """
ls|ls -la|ls -l|pwd|whoami|date|uname -a|df -h|env|git status|git log --oneline|git diff|git diff --stat|git branch
pytest|pytest -q|pytest -x|pytest tests|python3 -m pytest|python3 -m pytest -q|python -m pytest -q
python3 -m unittest|python -m unittest|python3 -m unittest -v|python3 -m unittest -q|python3 -m unittest discover
make|make test|make build|make lint|make all|npm test|npm run build|npm run lint|npm install|yarn test
cargo test|cargo build|cargo build --release|cargo check|go test ./...|go build ./...|go vet ./...
ruff check .|mypy .|black --check .|node --version|python3 --version|tox|ctest|mvn test|gradle test|true|false
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
