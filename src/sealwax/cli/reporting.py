"""--report and --report-format: reports in files, and where they come from."""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from sealwax._core import files
from sealwax._core.format.io import write_all
from sealwax._report import Provenance
from sealwax._text import printable
from sealwax.cli import console, locations, options
from sealwax.cli.kms import Aws
from sealwax.cli.options import Command
from sealwax.cli.state import current
from sealwax.errors import FileError, SealwaxError

if TYPE_CHECKING:
    from sealwax._aws.session import Session

# A name and password in a URL, and the query of one, which may be signed.
_USERINFO: Final = re.compile(r"(?<=://)[^/\s]*@")
_QUERY: Final = re.compile(r"(https?://[^?\s]*\?)\S+")
# The options that select a KMS.
_AGAIN: Final = ("profile", "region", "endpoint_url", "lab")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL")
# Longer suffixes first: 'audit.sarif.json' is SARIF.
_SUFFIXES: Final[Mapping[str, str]] = {
    ".sarif.json": "sarif",
    ".ocsf.json": "ocsf",
    ".junit.xml": "junit",
    ".sarif": "sarif",
    ".html": "html",
    ".htm": "html",
    ".json": "json",
    ".csv": "csv",
    ".xml": "junit",
}


@dataclass(frozen=True, slots=True)
class Reports:
    """The reports to write.

    Attributes:
        targets: files, or "-" for standard output, each with the form of its report.
        force: whether to overwrite existing files.
    """

    targets: tuple[tuple[str, str], ...] = ()
    force: bool = False

    def __bool__(self) -> bool:
        return bool(self.targets)

    @property
    def on_stdout(self) -> bool:
        """Whether a report takes the place of the text on standard output."""
        return any(path == "-" for path, _ in self.targets)

    def refuse(self, path: str, what: str) -> None:
        """Refuse to overwrite a file that the command needs."""
        if any(name != "-" and locations.real(name) == locations.real(path) for name, _ in self.targets):
            raise click.UsageError(f"--report would overwrite {what}; name another file")

    def write(self, render: Callable[[str], str]) -> None:
        """Write each report.

        Args:
            render: returns the report in a form.
        """
        for path, form in self.targets:
            report = render(form)
            if path == "-":
                console.print(report.removesuffix("\n"))
                continue
            # Readable for all, regardless of the umask: it is made to be handed over.
            with console.overwriting(path), files.WholeFile(path, overwrite=self.force, mode=0o644) as file:
                write_all(file, report.encode("utf-8", "backslashreplace"))


def _as_it_is(command: Command) -> Command:
    return command


def reports(*forms: str, add_force: bool = False) -> Callable[[Command], Command]:
    """Add --report and --report-format; the command gets ``reports``.

    Files are refused before the command begins, so that hours of work do not end in "already exists".

    Args:
        forms: the forms that this command's report has.
        add_force: whether to add --force; not for a command that has its own ``force``, which counts for reports too.
    """
    suffixes = ", ".join(suffix for suffix, form in _SUFFIXES.items() if form in forms and suffix.count(".") == 1)

    with_force: Callable[[Command], Command] = options.force if add_force else _as_it_is

    def decorate(command: Command) -> Command:
        @click.option(
            "--report",
            "paths",
            multiple=True,
            metavar="FILE",
            help=f"Also write the report to this file ({suffixes}), or to standard output with '-'; repeatable.",
        )
        @click.option(
            "--report-format",
            "form",
            type=click.Choice(forms),
            help="The format of the --report file, regardless of its name.",
        )
        @with_force
        @functools.wraps(command)
        def wrapped(*args: object, paths: tuple[str, ...], form: str | None, **kwargs: object) -> object:
            force = bool(kwargs.pop("force") if add_force else kwargs.get("force"))
            chosen = _chosen(paths, form, forms, force=force)
            if chosen.on_stdout and kwargs.get("as_json"):
                raise click.UsageError("use --json or --report -, not both")
            return command(*args, reports=chosen, **kwargs)

        return wrapped

    return decorate


def _chosen(paths: tuple[str, ...], form: str | None, forms: tuple[str, ...], *, force: bool) -> Reports:
    if form and len(paths) != 1:
        raise click.UsageError("--report-format requires exactly one --report FILE")
    targets = tuple((path, form or _form_of(path, forms)) for path in paths)
    if len({locations.real(path) for path in paths}) < len(paths):
        raise click.UsageError("--report was given twice with the same file")
    for path in paths:
        if path == "-" or files.is_special(path):
            continue
        if locations.is_s3(path):
            raise click.UsageError(f"--report writes files, not S3 objects such as '{console.shown(path)}'")
        if not os.path.isdir(folder := os.path.dirname(path) or "."):
            raise FileError(
                f"writing the report '{console.shown(path)}' failed: '{console.shown(folder)}' is not a folder"
            )
        if not force:
            with console.overwriting(path):
                files.refuse_existing(path)
        locations.refuse_data(path, "--report")
    return Reports(targets, force)


def _form_of(path: str, forms: tuple[str, ...]) -> str:
    name = path.lower()
    form = next((form for suffix, form in _SUFFIXES.items() if name.endswith(suffix) and form in forms), None)
    if form is None:
        shown = "a report on standard output" if path == "-" else f"'{console.shown(path)}'"
        raise click.UsageError(
            f"the format of {shown} is unclear; choose one with --report-format ({', '.join(forms)})"
        )
    return form


def provenance(
    aws: Aws, regions: Iterable[str], *, session: Session | None = None, caller: str | None = None
) -> Provenance:
    """Return where a report comes from. The caller is asked of STS (sts:GetCallerIdentity, which nothing can deny).

    Args:
        regions: the Regions that the report is about.
        session: the session of the command, if it has one.
        caller: the caller's ARN, if it is known; empty if it is not and STS is not to be asked.
    """
    arn = _caller(aws, session) if caller is None else caller
    parts = arn.split(":", 5)
    return Provenance(
        time=datetime.now().astimezone(),
        command=typed(),
        caller=arn,
        account=parts[4] if len(parts) == 6 else "",
        regions=tuple(dict.fromkeys(region for region in regions if region)),
        source=_source(aws),
    )


def typed() -> str:
    """Return the command as it was typed, quoted for a shell, without what a URL may hold of secrets."""
    return printable(shlex.join(typed_words()))


def typed_words() -> list[str]:
    """Return the words of the command as it was typed, without what a URL may hold of secrets."""
    return ["sealwax", *map(_without_secrets, current().arguments)]


def command(*words: str) -> str:
    """Return a command to type next, quoted for a shell, with the options that select a KMS as they were typed."""
    context = click.get_current_context(silent=True)
    again = [
        part
        for name in _AGAIN
        if context is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        for part in (f"--{name.replace('_', '-')}", _without_secrets(context.params[name]))
    ]
    # A name that begins with a dash would be taken for an option.
    first, *rest = (f"./{word}" if word.startswith("-") and not word.startswith("--") else word for word in words)
    return shlex.join(("sealwax", first, *rest, *again))


def _without_secrets(word: str) -> str:
    return _QUERY.sub(r"\1***", _USERINFO.sub("***@", word))


def _caller(aws: Aws, session: Session | None) -> str:
    from sealwax._aws import sts

    if aws.lab is None and _endpoint(aws):
        return ""  # whoever AWS knows by these credentials may be somebody else there
    try:
        return sts.whoami(session or aws.session(), "asking STS for the caller")
    except SealwaxError as error:
        console.info(f"the report does not name its caller: {error}")
        return ""


def _endpoint(aws: Aws) -> str:
    given = aws.endpoint_url or next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    return _without_secrets(given)


def _source(aws: Aws) -> str:
    if aws.lab is not None:
        return f"the lab in {os.path.realpath(os.fsdecode(aws.lab))}, not AWS"
    endpoint = _endpoint(aws)
    return f"the endpoint {endpoint}" if endpoint else ""
