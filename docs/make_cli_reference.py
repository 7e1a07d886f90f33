"""Write docs/reference/cli.md from the program itself: python docs/make_cli_reference.py"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from sealwax import cli
from sealwax.cli import verbs

PAGE = Path(__file__).with_name("reference") / "cli.md"

HEAD = """# Command line

<!-- Written by docs/make_cli_reference.py from the program; change the program, not this page. -->

Data goes to standard output, everything else to standard error. `-` is standard input or output, and
`s3://bucket/key` is an S3 object; with `-r`, `s3://bucket/prefix` means every object whose key begins with that
prefix. The [exit statuses](statuses.md) have their own page.

In a terminal: `sealwax help encrypt` or `man sealwax-encrypt` for a verb, `sealwax help 7` for an exit status,
`sealwax help AccessDeniedError` for an error.

`-q` prints only errors and the output that was asked for: decrypted data, `--json`, and the answers of commands that
only show something, such as `inspect`, `audit` and `keys list`. The reports of commands that change or check
something, such as `fleet run`, are left out; `prove` and `doctor` print only what failed. `--metrics` still prints its
line on standard error. The exit status is the same. `-q`, `-v` and `--debug` can also come before the command.

`-v` adds a line on standard error for each request to AWS: the operation, the KMS key or S3 object, how it ended and
after how long, which attempt it was if it was retried, the Region, the request ID (as in CloudTrail), and the names
in the encryption context, not their values:

```
sealwax: KMS Decrypt alias/demo: ok in 31 ms, us-east-1, request 153484aa-9c76-4a93, context names purpose
sealwax: KMS Decrypt alias/demo: ThrottlingException in 12 ms, attempt 2, us-east-1, request 0c1e8f43-51d2-4b07
```

`--debug` adds botocore's log: where it looks for credentials and endpoints, connections, and the beginning of each
request and response. It never has bodies, signatures, credentials, MFA codes or data keys: everything that is not
known to be harmless is shown as `[withheld]`. Before you attach the log to an issue, check the names of keys and
objects in it. Requests of other processes are not shown: Spark's executors, and the helper of `prove`.
"""

# Each verb's examples need other files; CONTRIBUTING.md has the meaning of the mark.
RUN_BY = "each example of a verb is a test of its own"
ENVIRONMENT = (
    ("SEALWAX_KEY", "the KMS key, if `-k` is not given"),
    (
        "SEALWAX_CONTEXT",
        "pairs of the context, besides those of `-c`: `NAME=VALUE,NAME=VALUE`, or a JSON object",
    ),
    ("SEALWAX_SETTINGS", "the settings file to read; empty for none"),
    ("SEALWAX_STORE", "the database of the key store, if `--store` is not given: a URL without a password"),
    ("SEALWAX_LAB", "the lab's folder, like `--lab`"),
    ("AWS_PROFILE, AWS_DEFAULT_REGION and the others", "as boto3 uses them"),
    ("AWS_ENDPOINT_URL_S3", "an S3 endpoint other than AWS's; used with the lab too"),
    ("NO_COLOR, FORCE_COLOR, TERM=dumb", "no colors; colors in pipes too; no colors. The first one that is set wins"),
    ("COLUMNS", "the width of tables on a terminal, instead of the terminal's own"),
)


def contexts(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for every command below, groups without options of their own included."""
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            below = click.Context(command, info_name=name, parent=context)
            yield below
            yield from contexts(below)


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def option_row(option: click.Option) -> str:
    names, value = verbs.names_of(option)
    shown = ", ".join(f"`{name}`" for name in names.split(", "))
    return f"| {cell(f'{shown} {value}'.rstrip())} | {cell(verbs.meaning_of(option))} |"


def option_rows(command: click.Command, context: click.Context) -> Iterator[str]:
    groups = verbs.grouped(command, context)
    for title, options in groups.items():
        rows = [option_row(option) for option in options if "--help" not in option.opts]
        if rows and len(groups) > 1:
            yield f"| **{title}** | |"
        yield from rows


def section(context: click.Context) -> str:
    command, name = context.command, context.command_path
    usage = [name]
    if isinstance(command, click.Group):
        usage.append("VERB")
    usage.append("[OPTIONS]")
    usage += map(argument_name, arguments(command))
    lines = [f"## {name}", "", f"`{' '.join(usage)}`", "", inspect.cleandoc(command.help or ""), ""]
    if rows := list(option_rows(command, context)):
        lines += ["| Option | Meaning |", "|---|---|", *rows, ""]
    if examples := verbs.example_lines(name):
        lines += [f"```sh not run: {RUN_BY}", *examples, "```", ""]
    return "\n".join(lines)


def argument_name(argument: click.Argument) -> str:
    if isinstance(argument.type, click.Choice):
        return "|".join(map(str, argument.type.choices))
    return argument.metavar or argument.human_readable_name


def arguments(command: click.Command) -> list[click.Argument]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Argument)]


def top() -> click.Context:
    """Return a context for the program itself."""
    return click.Context(cli.root, info_name="sealwax", **cli.root.context_settings)


def page() -> str:
    """Return docs/reference/cli.md as it should be."""
    rows = [
        f"| {re.sub(r'[A-Z][A-Z0-9_]+', lambda name: f'`{name[0]}`', names)} | {text} |" for names, text in ENVIRONMENT
    ]
    head = "\n".join([HEAD, "| Environment | Meaning |", "|---|---|", *rows, ""])
    return "\n".join([head, *map(section, contexts(top()))])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
