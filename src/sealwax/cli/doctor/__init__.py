"""sealwax doctor

Each check gives a ``Line``. A check that another one makes pointless is "not checked": one cause is one finding.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Final

import click

from sealwax import __version__
from sealwax._text import printable
from sealwax.cli import FINDINGS, console, layers, options
from sealwax.cli.doctor import account, machine
from sealwax.cli.doctor.lines import Line
from sealwax.cli.kms import Aws
from sealwax.cli.state import current

_COLORS: Final = {"ok": "green", "optional": "cyan", "not checked": "yellow", "needs fixing": "red"}
_STATE_WIDTH: Final = 12
_INDENT: Final = " " * 27


@click.command()
@click.option(
    "-k",
    "--key",
    "names",
    multiple=True,
    metavar="KEY",
    help="A KMS key to check: key ID, key ARN, alias/NAME or alias ARN; repeatable. Default: SEALWAX_KEY, or those of "
    "the settings.",
)
@options.aws
@options.context(stored=False, of_files=False)
@options.as_json
@options.loudness
def doctor(names: tuple[str, ...], aws: Aws, template: options.ContextTemplate, as_json: bool) -> int:
    """Check your setup, and say how to fix it.

    Checks versions, the terminal, the settings file, the Region, credentials, the clock, and the keys of -k: whether
    each exists, its state, and what you may do with it. Permissions are checked with KMS dry runs, so nothing
    is changed; the dry runs have the context of -c, which policies may require.

    Each line is "ok", "needs fixing", "not checked", or "optional" if encrypting and decrypting under one key do not
    need it. The exit status is 3 if a line needs fixing, and 0 otherwise.
    """
    lines = [*machine.lines(), *account.lines(names or _default_keys(), aws, template.of_some_file())]
    sick = sum(line.state == "needs fixing" for line in lines)
    if as_json:
        checks = [{name: getattr(line, name) for name in Line.__slots__} for line in lines]
        console.print_json({"sealwax": __version__, "needs_fixing": sick, "checks": checks})
        return FINDINGS if sick else 0
    for line in lines:
        if line.state == "needs fixing" or not current().quiet:
            _print(line)
    if sick:
        console.print(f"{console.counted(sick, 'line needs', 'lines need')} fixing.")
    elif not current().quiet:
        console.print("Nothing needs fixing.")
    return FINDINGS if sick else 0


def _default_keys() -> tuple[str, ...]:
    """Return the keys of SEALWAX_KEY, or all that the settings file names."""
    settings = current().settings
    of_rules = () if settings is None else (key for rule in settings.rules for key in rule.keys)
    return layers.named_keys() or tuple(dict.fromkeys((*layers.default_keys(), *of_rules)))


def _print(line: Line) -> None:
    parts = [f"{line.state:<{_STATE_WIDTH}}  {line.check:<11}  {printable(line.detail)}"]
    if line.fix:
        parts.append(f"{_INDENT}fix: {printable(line.fix)}")
    if sys.stdout is not None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        parts = [_wrapped(part, width) for part in parts]
        parts[0] = click.style(parts[0][:_STATE_WIDTH], fg=_COLORS[line.state]) + parts[0][_STATE_WIDTH:]
    console.print("\n".join(parts))


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width, subsequent_indent=_INDENT, break_on_hyphens=False, break_long_words=False)
