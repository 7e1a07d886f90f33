"""Write the manual pages in docs/man from the program itself: python docs/make_man_pages.py"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from make_cli_reference import ENVIRONMENT, argument_name, arguments, contexts, top

from sealwax import __version__
from sealwax.cli import verbs
from sealwax.cli.troubles import STATUSES

FOLDER = Path(__file__).with_name("man")


# What groff would print as another character, which could not be pasted.
_ESCAPES = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})


def escaped(text: str) -> str:
    """Return text as roff prints it: every character is itself, and no line is a request."""
    return re.sub(r"^(?=\.)", r"\\&", text.translate(_ESCAPES), flags=re.MULTILINE)


def prose(text: str) -> str:
    """Return a sentence or more; what is in backticks is bold."""
    return "".join(rf"\fB{escaped(part)}\fR" if at % 2 else escaped(part) for at, part in enumerate(text.split("`")))


def paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number:
            yield ".PP"
        yield prose(" ".join(paragraph.split()))


def verbatim(lines: Sequence[str]) -> list[str]:
    return [".nf", *map(escaped, lines), ".fi"]


def synopsis(context: click.Context) -> str:
    parts = [f"\\fB{escaped(context.command_path)}\\fR"]
    if isinstance(context.command, click.Group):
        parts.append("\\fIVERB\\fR")
    parts.append("[\\fIOPTIONS\\fR]")
    parts += [escaped(argument_name(argument)).replace("|", "|\\:") for argument in arguments(context.command)]
    return " ".join(parts)


def options(context: click.Context) -> Iterator[str]:
    groups = verbs.grouped(context.command, context)
    for title, members in groups.items():
        if len(groups) > 1:
            yield f'.SS "{escaped(title)}"'
        for option in members:
            names, value = verbs.names_of(option)
            yield ".TP"
            yield f"\\fB{escaped(names)}\\fR" + (f" \\fI{escaped(value)}\\fR" if value else "")
            yield prose(verbs.meaning_of(option))


def terms(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    for term, text in rows:
        yield from (".TP", f"\\fB{escaped(term)}\\fR", prose(text))


def name_of(path: str) -> str:
    return path.replace(" ", "-")


def page(context: click.Context) -> str:
    """Return the manual page of a command."""
    command, name = context.command, name_of(context.command_path)
    lines = [
        '.\\" Written by docs/make_man_pages.py from the program; change the program, not this page.',
        f'.TH "{escaped(name.upper())}" 1 "" "sealwax {__version__}" "sealwax"',
        # No hyphenation, and no spaces between words to fill a line: commands and names stay whole.
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{escaped(name)} \\- {prose(command.get_short_help_str(limit=1000).rstrip('.'))}",
        ".SH SYNOPSIS",
        synopsis(context),
        ".SH DESCRIPTION",
        *paragraphs(command.help or ""),
    ]
    if isinstance(command, verbs.VerbGroup):
        lines += [".SH VERBS", *terms(command.summaries(context))]
    lines += [".SH OPTIONS", *options(context)]
    if examples := verbs.example_lines(context.command_path):
        lines += [".SH EXAMPLES", *verbatim(examples)]
    if context.parent is None:
        lines += [".SH ENVIRONMENT", *terms(iter(ENVIRONMENT))]
        statuses = ((str(status), f"{trouble.what}.") for status, trouble in STATUSES.items())
        lines += [".SH EXIT STATUS", *terms(statuses)]
        lines += [prose("`sealwax help 7` says what usually causes one, and the fix.").join((".PP\n", ""))]
    lines += [".SH SEE ALSO", see_also(context)]
    return "\n".join(lines) + "\n"


def see_also(context: click.Context) -> str:
    """Return the pages above and below."""
    paths = [] if context.parent is None else [context.parent.command_path]
    if isinstance(context.command, click.Group):
        paths += [f"{context.command_path} {name}" for name in context.command.list_commands(context)]
    return ",\n".join(f"\\fB{escaped(name_of(path))}\\fR(1)" for path in paths)


def pages() -> dict[str, str]:
    """Return each manual page by the name of its file."""
    return {f"{name_of(context.command_path)}.1": page(context) for context in (top(), *contexts(top()))}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    written = pages()
    for path in FOLDER.iterdir():
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
