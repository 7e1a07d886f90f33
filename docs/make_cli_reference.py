"""Write docs/cli.md from the program itself: python docs/make_cli_reference.py"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from sealwax import cli

PAGE = Path(__file__).with_name("cli.md")

HEAD = """# Command line

Written by [make_cli_reference.py](make_cli_reference.py) from the program; change the program, not this page.

Data goes to standard output, everything else to standard error. `-` is standard input or output,
`s3://bucket/key` an S3 object; with `-r`, `s3://bucket/prefix` stands for every object whose key begins like that.
The [exit statuses](statuses.md) have their own page.

| Environment | Meaning |
|---|---|
| `SEALWAX_KEY` | the KMS key, if `-k` is not given |
| `SEALWAX_CONTEXT` | pairs of the context, besides those of `-c`: `NAME=VALUE,NAME=VALUE`, or a JSON object |
| `SEALWAX_SETTINGS` | the [settings file](settings.md) to read; empty for none |
| `SEALWAX_LAB` | the lab's folder, like `--lab` |
| `AWS_PROFILE`, `AWS_DEFAULT_REGION` and the others | as boto3 uses them |
| `AWS_ENDPOINT_URL_S3` | an S3 endpoint other than that of AWS, also if KMS is the lab |
| `NO_COLOR`, `FORCE_COLOR`, `TERM=dumb` | no colors; colors in pipes too; no colors. The first that is set counts |
| `COLUMNS` | the width of tables on a terminal, if it is not the terminal's own |

`-q` prints errors only. Standard output then has what was asked for: decrypted data, `--json`, and the answers of
commands that do nothing else, such as `inspect`, `audit`, `prove` and `keys list`; it does not have the reports of
commands that change or check something, such as `fleet run`. `--metrics` still prints its line on standard error. The
exit status is the same. `-q`, `-v` and `--debug` may also stand before the command.

`-v` adds a line on standard error for each request to AWS: the operation, the KMS key or S3 object, how it ended and
after how long, which attempt it was if it was repeated, the Region, the request ID (as in CloudTrail), and the names
in the encryption context, not their values:

```
sealwax: KMS Decrypt alias/demo: ok in 31 ms, us-east-1, request 153484aa-9c76-4a93, context names purpose
sealwax: KMS Decrypt alias/demo: ThrottlingException in 12 ms, attempt 2, us-east-1, request 0c1e8f43-51d2-4b07
```

`--debug` adds botocore's log: where it looks for credentials and endpoints, connections, and the beginning of each
request and answer. It never has bodies, signatures, credentials, MFA codes or data keys: whatever is not known to be
harmless is `[withheld]`, so it can be attached to an issue after a look at the names of keys and objects in it.
Requests of other processes are not shown: Spark's executors, and the helper of `prove`.
"""


def commands(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below, with its full name, groups without options of their own included."""
    context = click.Context(command, info_name=name, parent=parent)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            subcommand = command.get_command(context, child)
            assert subcommand is not None
            yield f"{name} {child}", subcommand
            if isinstance(subcommand, click.Group):
                yield from commands(subcommand, f"{name} {child}", context)


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def option_row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if not option.is_flag and not option.count:
        names += f" {option.metavar or option.type.name.upper()}"
    notes = [option.help or ""]
    if option.required:
        notes.append("Required.")
    if option.show_default:
        notes.append(f"Default: `{option.default}`.")
    if option.envvar:
        notes.append(f"Or `{option.envvar}`.")
    return f"| {cell(names)} | {cell(' '.join(notes))} |"


def section(name: str, command: click.Command) -> str:
    usage = [name]
    if isinstance(command, click.Group):
        usage.append("COMMAND")
    usage.append("[OPTIONS]")
    usage += map(argument_name, arguments(command))
    lines = [f"## {name}", "", f"`{' '.join(usage)}`", "", inspect.cleandoc(command.help or ""), ""]
    options = [
        parameter for parameter in command.params if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    if options:
        lines += ["| Option | Meaning |", "|---|---|", *map(option_row, options), ""]
    if command.epilog:
        # \b marks a paragraph whose lines are to stay as they are.
        text = inspect.cleandoc(command.epilog)
        lines += ["```", text.removeprefix("\b\n"), "```", ""] if text.startswith("\b") else [text, ""]
    return "\n".join(lines)


def argument_name(argument: click.Argument) -> str:
    if isinstance(argument.type, click.Choice):
        return "|".join(map(str, argument.type.choices))
    return argument.metavar or argument.human_readable_name


def arguments(command: click.Command) -> list[click.Argument]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Argument)]


def page() -> str:
    """Return docs/cli.md as it should be."""
    return "\n".join([HEAD, *(section(name, command) for name, command in commands(cli.root, "sealwax", None))])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
