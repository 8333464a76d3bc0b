"""What the agent asks the user, and what the user chooses: screens on top of the conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList, Static
from textual.widgets.option_list import Option as Line

from acp.elicitation import Field, Value
from acp.updates import UNSET, Choice, ConfigOption

from ..cli.asking import keys_of
from ..cli.forms import read_value, rules
from ..cli.visible import visible, visible_line
from ..host.elicitation import Accepted, Answer, Declined, Dismissed, FormRequest, UrlRequest
from ..host.host import PermissionRequest
from ..surface import SessionCard
from .entries import call_text


@dataclass(frozen=True, slots=True)
class Stop:
    """The user wants neither answer but the end of the turn."""


class Dialog(ModalScreen[object]):
    """A box in the middle of the screen. Escape leaves it with nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave")]

    def action_leave(self) -> None:
        self.dismiss(None)


class PermissionDialog(Dialog):
    """The whole call, and the answers that the agent offers. Gives the id of one, or `Stop`."""

    def __init__(self, request: PermissionRequest) -> None:
        super().__init__()
        self._request = request
        self._keys = keys_of(request.options)

    def compose(self) -> ComposeResult:
        request, call = self._request, self._request.call
        body = call_text(call, {})
        if not call.content and call.raw_input is not UNSET and call.raw_input is not None:
            body = Text(visible_line(repr(call.raw_input)))
        with Vertical(classes="box"):
            yield Label(Text(f"May the agent do this in {visible_line(request.cwd)}?", style="bold"))
            yield Label(Text(visible(request.title or call.title)))
            if request.description:
                yield Label(Text(visible(request.description), style="dim"))
            with VerticalScroll(classes="body"):
                yield Static(body)
            lines = [Line(Text(f"{key}  {visible_line(option.name)}"), id=key) for key, option in self._keys.items()]
            yield OptionList(*lines, Line(Text("q  stop the turn"), id="q"))

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self._answer(event.option_id or "")

    def on_key(self, event: Key) -> None:
        if event.key in self._keys or event.key == "q":
            event.stop()
            self._answer(event.key)

    def action_leave(self) -> None:
        self._answer("q")

    def _answer(self, key: str) -> None:
        self.dismiss(self._keys[key].id if key in self._keys else Stop())


class FormDialog(Dialog):
    """A form, field by field; Enter in the last one sends what fits. Gives an `Answer`."""

    def __init__(self, request: FormRequest) -> None:
        super().__init__()
        self._request = request
        self._inputs = {field.name: Input(value=_written(request.defaults.get(field.name))) for field in request.fields}

    def compose(self) -> ComposeResult:
        request = self._request
        with Vertical(classes="box"):
            yield Label(Text(f"{visible_line(request.agent or 'The agent')} asks: {visible_line(request.message)}"))
            yield Label(Text("The agent and its model read what you enter: no passwords, no keys.", style="dim"))
            with VerticalScroll(classes="body"):
                for field in request.fields:
                    yield Label(Text(_heading(field)))
                    yield self._inputs[field.name]
            yield Label("", id="wrong")
            yield Label(Text("Enter: next, then send   Ctrl-N: say no   Escape: leave without an answer", style="dim"))

    def on_mount(self) -> None:
        for input in self._inputs.values():
            input.focus()
            break

    def on_input_submitted(self, event: Input.Submitted) -> None:
        inputs = list(self._inputs.values())
        at = inputs.index(event.input) + 1
        if at < len(inputs):
            inputs[at].focus()
            return
        content: dict[str, Value] = {}
        for field in self._request.fields:
            input = self._inputs[field.name]
            try:
                value = read_value(field, input.value)
            except ValueError as error:
                self.query_one("#wrong", Label).update(Text(f"{field.label} {error}", style="red"))
                input.focus()
                return
            if value is not None:
                content[field.name] = value
        self.dismiss(Accepted(content))

    def on_key(self, event: Key) -> None:
        if event.key == "ctrl+n":
            event.stop()
            self.dismiss(Declined())

    def action_leave(self) -> None:
        self.dismiss(Dismissed())


def _heading(field: Field) -> str:
    choices = ", ".join(f"{number} {choice.title or choice.value}" for number, choice in enumerate(field.choices, 1))
    need = "" if field.required else "optional"
    told = "; ".join(filter(None, (need, field.description, rules(field), choices)))
    return visible_line(field.label) + (f" ({visible_line(told)})" if told else "")


def _written(value: Value | None) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ",".join(value)
        case _:
            return str(value)


class PageDialog(Dialog):
    """A page that the user is asked to visit, in a browser of their own. Gives an `Answer`."""

    def __init__(self, request: UrlRequest) -> None:
        super().__init__()
        self._request = request

    def compose(self) -> ComposeResult:
        request, link = self._request, self._request.link
        with Vertical(classes="box"):
            yield Label(Text(f"{visible_line(request.agent or 'The agent')} asks you to visit a page: "))
            yield Label(Text(visible_line(request.message)))
            yield Static(Text(visible_line(link.url)))
            yield Label(Text(f"host: {visible_line(link.host)}", style="bold"))
            for warning in link.warnings:
                yield Label(Text(f"Careful: {visible_line(warning)}", style="red"))
            yield OptionList(Line("Yes, I open it myself", id="y"), Line("No", id="n"), Line("No answer", id="q"))

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        answers: dict[str | None, Answer] = {"y": Accepted(), "n": Declined()}
        self.dismiss(answers.get(event.option_id, Dismissed()))

    def action_leave(self) -> None:
        self.dismiss(Dismissed())


class OptionsDialog(Dialog):
    """What can be set in the session. Gives the id of an option and the value for it, or nothing."""

    def __init__(self, options: Sequence[ConfigOption]) -> None:
        super().__init__()
        self._values: dict[str, tuple[str, str | bool]] = {}
        self._lines = list(self._listed(options))

    def _listed(self, options: Sequence[ConfigOption]) -> Sequence[Line]:
        lines: list[Line] = []
        for option in options:
            lines.append(Line(Text(visible_line(option.name), style="bold"), disabled=True))
            on_off = (Choice("on", "on"), Choice("off", "off"))
            for choice in option.choices or on_off:
                value = choice.value if option.choices else choice.value == "on"
                id = str(len(self._values))
                self._values[id] = option.id, value
                what = f"  {visible_line(choice.description)}" if choice.description else ""
                mark = "●" if value == option.value else "○"
                lines.append(Line(Text(f"  {mark} {visible_line(choice.name)}{what}"), id=id))
        return lines

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(Text("Options", style="bold"))
            yield OptionList(*self._lines, classes="tall")

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._values[event.option_id or ""])


class SessionsDialog(Dialog):
    """The sessions that the agent keeps. Gives the id of one, or nothing."""

    def __init__(self, cards: Sequence[SessionCard]) -> None:
        super().__init__()
        self._cards = cards

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(Text("Sessions in this directory", style="bold"))
            lines = [
                Line(Text(f"{(card.updated_at or '')[:16].replace('T', ' ')}  {visible_line(card.title or card.id)}"))
                for card in self._cards
            ]
            yield OptionList(*lines, classes="tall")

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._cards[event.option_index].id)
