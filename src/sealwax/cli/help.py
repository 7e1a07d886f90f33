"""sealwax help"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import click
from click.shell_completion import CompletionItem

from sealwax import errors
from sealwax._text import printable
from sealwax.cli import VERBS, console, options, root, status_of
from sealwax.cli.examples import EXAMPLES
from sealwax.cli.troubles import ERRORS, OF_EXTRAS, STATUSES, Trouble
from sealwax.cli.verbs import VerbGroup, did_you_mean

_LISTS: Final = ("statuses", "errors")
_ERROR_OF: Final = {kind.__name__.lower(): kind for kind in ERRORS}
_EXTRA_OF: Final = {name.lower(): name for name in OF_EXTRAS}
_NAMES: Final = (*(kind.__name__ for kind in ERRORS), *OF_EXTRAS)


def _offer(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    topics = [*VERBS, *map(str, STATUSES), *_LISTS, *_NAMES]
    return [CompletionItem(topic) for topic in topics if topic.lower().startswith(incomplete.lower())]


@click.command()
@click.argument("topic", nargs=-1, shell_complete=_offer)
@options.loudness
@click.pass_context
def help(ctx: click.Context, topic: tuple[str, ...]) -> None:  # noqa: A001  the name of the verb
    """Explain a verb, an exit status or an error: what it means, its usual causes and their fixes.

    TOPIC is a verb (fleet plan), an exit status (7), an error by the name that --json prints (AccessDeniedError) or by
    AWS's code (AccessDeniedException). "statuses" and "errors" list them all.
    """
    width = click.HelpFormatter(width=ctx.terminal_width, max_width=ctx.max_content_width).width
    formatter = click.HelpFormatter(width=width)
    word = topic[0] if len(topic) == 1 else ""
    if word.isdecimal() and int(word) in STATUSES:
        _write_status(int(word), formatter)
    elif kind := _error_of(word):
        _write_error(kind, word, formatter)
    elif name := _EXTRA_OF.get(word.lower()) or _EXTRA_OF.get(f"{word.lower()}error"):
        _write_trouble(f"{name} (exit status 1)", OF_EXTRAS[name], formatter)
    elif word == "statuses":
        _write_list("Exit statuses", ((str(status), trouble.what) for status, trouble in STATUSES.items()), formatter)
    elif word == "errors":
        told = zip(_NAMES, (*ERRORS.values(), *OF_EXTRAS.values()), strict=True)
        _write_list("Errors", ((name, trouble.what) for name, trouble in told), formatter)
    else:
        console.print(_help_of(topic))
        return
    console.print(formatter.getvalue().rstrip("\n"))


def _help_of(path: Sequence[str]) -> str:
    """Return what --help prints for the verb with this path."""
    ctx = click.Context(root, info_name="sealwax", **root.context_settings)
    for name in path:
        command = ctx.command.get_command(ctx, name) if isinstance(ctx.command, VerbGroup) else None
        if command is None:
            raise click.UsageError(_unknown(ctx, path, name))
        ctx = click.Context(command, info_name=name, parent=ctx)
    return ctx.get_help()


def _unknown(ctx: click.Context, path: Sequence[str], name: str) -> str:
    if ctx.parent is not None:
        if isinstance(ctx.command, VerbGroup):
            return ctx.command.unknown(ctx, name)
        return f"'{ctx.command_path}' has no verbs below it; try `sealwax help {' '.join(path[: path.index(name)])}`"
    topic = " ".join(path)
    hint = did_you_mean(topic, [*VERBS, *_LISTS, *_NAMES, *EXAMPLES])
    if topic.lstrip("-").isdecimal():
        hint = "; `sealwax help statuses` lists the exit statuses"
    return f"no help on '{printable(topic)}'{hint or '; `sealwax help` lists the verbs'}"


def _error_of(name: str) -> type[errors.SealwaxError] | None:
    """Return the error with this name, or that an error code of KMS is reported as."""
    if kind := _ERROR_OF.get(name.lower()) or _ERROR_OF.get(f"{name.lower()}error"):
        return kind
    if not name[:1].isupper():
        return None  # no code; the import takes a while
    from sealwax._aws.meanings import CODES

    return CODES[name].error if name in CODES else None


def _write_status(status: int, formatter: click.HelpFormatter) -> None:
    _write_trouble(f"Exit status {status}", STATUSES[status], formatter)
    kinds = [kind.__name__ for kind in ERRORS if kind is not errors.SealwaxError and status_of(_blank(kind)) == status]
    if kinds:
        with formatter.section("Errors with this status"):
            formatter.write_text(", ".join(kinds) + ".")


def _write_error(kind: type[errors.SealwaxError], asked: str, formatter: click.HelpFormatter) -> None:
    name = kind.__name__
    if asked.lower() not in (name.lower(), name.lower().removesuffix("error")):
        formatter.write_text(f"{asked} is a code of AWS. The error is {name}.")
        formatter.write_paragraph()
    _write_trouble(f"{name} (exit status {status_of(_blank(kind))})", ERRORS[kind], formatter)
    below = [each.__name__ for each in ERRORS if each.__bases__[0] is kind]
    if below:
        with formatter.section("Errors of this kind"):
            formatter.write_text(", ".join(below) + ".")


def _blank(kind: type[errors.SealwaxError]) -> errors.SealwaxError:
    return kind.__new__(kind)


def _write_trouble(title: str, trouble: Trouble, formatter: click.HelpFormatter) -> None:
    formatter.write_text(f"{title}: {trouble.what}.")
    if trouble.messages:
        with formatter.section("Its messages say"):
            for message in trouble.messages:
                formatter.write_text(message)
    if trouble.causes:
        with formatter.section("Usual causes and fixes"):
            for number, (cause, fix) in enumerate(trouble.causes):
                if number:
                    formatter.write_paragraph()
                formatter.write_text(cause)
                formatter.indent()
                formatter.write_text(fix)
                formatter.dedent()


def _write_list(title: str, rows: Iterable[tuple[str, str]], formatter: click.HelpFormatter) -> None:
    with formatter.section(title):
        formatter.write_dl(list(rows))
