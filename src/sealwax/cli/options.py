"""Options that several verbs share, and the encryption context that they describe."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import click
from click.core import ParameterSource

from sealwax._core import context as ctx
from sealwax._core import trusted
from sealwax._core.context import AcceptStoredContext, NoContext
from sealwax._core.foreign.rules import LEGACY, UNMARKED
from sealwax._text import printable
from sealwax.cli import console, layers, settingsfile
from sealwax.cli.kms import Aws, Keys, refuse_too_many
from sealwax.cli.locations import is_s3, refuse_mistyped
from sealwax.cli.settingsfile import MAX_WORKERS, Layer, context_of, is_suffix, local_of
from sealwax.cli.state import RunState, current
from sealwax.cli.verbosity import loudness as loudness
from sealwax.errors import ContextError, FileError, SettingsError

Command = Callable[..., object]

SUFFIX: Final = ".swx"
WORKERS: Final = 8
_CONTEXT_FILE: Final = trusted.Kind("the context file", FileError)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Several times the size of the largest context with every character escaped.
_MAX_CONTEXT_FILE: Final = 1 << 20


class Duration(click.ParamType):  # type: ignore[type-arg]  # no generic in older releases
    """A time such as 90s, 50m, 8h or 30d, in seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        if match is None or not int(match[1]):
            self.fail(f"'{printable(str(value))}' is not a time such as 90s, 50m, 8h or 30d", param, ctx)
        return float(int(match[1]) * _SECONDS[match[2]])


@dataclass(frozen=True, slots=True)
class ContextTemplate:
    """The context that was given; ``{relpath}`` and ``{name}`` are replaced for each file.

    Attributes:
        pairs: all that count, as far as no rule of the settings says otherwise.
        typed: those of options.
        variable: those of SEALWAX_CONTEXT.
        local: the names of local pairs that options list.
    """

    pairs: Mapping[str, str] = field(default_factory=dict)
    none: bool = False
    accept_stored: bool = False
    typed: Mapping[str, str] = field(default_factory=dict)
    variable: Mapping[str, str] = field(default_factory=dict)
    local: tuple[str, ...] = ()

    @property
    def given(self) -> Mapping[str, str]:
        """The pairs that are not of the settings."""
        return {**self.variable, **self.typed}

    def of(self, layers: tuple[Layer, ...]) -> ContextTemplate:
        """Return what counts for a file, with what the settings say about it."""
        if self.none:
            return self
        untyped = {**context_of(layers), **self.variable}
        if self.accept_stored:
            # Whoever trusts the stored context asks for no other pair than those of -c; but local ones are not stored.
            local = {*self.local, *local_of(layers)}
            untyped = {name: value for name, value in untyped.items() if name in local}
        return replace(self, pairs={**untyped, **self.typed})

    def refuse_rules(self) -> None:
        """Refuse to take one context for all files, if rules of the settings give them different ones."""
        settings = current().settings
        # Those of SEALWAX_CONTEXT add to all others, so that they select nothing.
        if settings is None or self.typed or self.none or self.accept_stored:
            return
        if rule := next((rule for rule in settings.rules if rule.context), None):
            raise click.UsageError(
                f"{rule.shown} of '{printable(settings.path)}' has a context of its own, but this command has one "
                "context for all envelopes; select them with -c NAME=VALUE, --accept-stored-context or --no-context"
            )

    def _filled(self, relpath: str | None) -> dict[str, str]:
        if relpath is None:
            marks = [match[0] for value in self.pairs.values() for match in ctx.BRACED.finditer(value)]
            if any(mark in ctx.PLACEHOLDERS for mark in marks):
                raise click.UsageError(
                    "{relpath} and {name} stand for the path and name of a file, but there is no named file here; "
                    "write {{relpath}} and {{name}} for the literal text"
                    + ("" if self.pairs == self.given else ", or use --no-settings if the settings file has them")
                )
        # In one pass, so that a placeholder in a file's name is not replaced in turn.
        return {
            key: ctx.BRACED.sub(lambda match: ctx.placed(match[0], relpath or ""), value)
            for key, value in self.pairs.items()
        }

    def of_some_file(self) -> dict[str, str]:
        """Return the pairs that KMS sees of some file."""
        settings = current().settings
        local = {*self.local, *(() if settings is None else local_of((settings.top,)))}
        return {name: value for name, value in self._filled("example").items() if name not in local}

    def without_file(self) -> dict[str, str]:
        """Return the pairs for a command that is not about files."""
        return self._filled(None)

    def to_bind(self, relpath: str | None) -> Mapping[str, str] | NoContext:
        """Return the context to encrypt a file with."""
        if self.none:
            return ctx.NO_CONTEXT
        if not self.pairs:
            raise ContextError("no context was given; bind the data to one with -c NAME=VALUE, or use --no-context")
        return self._filled(relpath)

    def to_expect(self, relpath: str | None) -> ctx.ExpectedContext:
        """Return the context that a file must have."""
        if self.accept_stored:
            return AcceptStoredContext(self._filled(relpath))
        if not self.pairs and not self.none:
            raise ContextError(
                "no context was given; give the one that the data is bound to with -c NAME=VALUE, or use "
                "--accept-stored-context to trust the one in the envelope, or --no-context"
            )
        bound = self.to_bind(relpath)
        if isinstance(bound, NoContext) or not any("*" in value for value in bound.values()):
            return bound
        from sealwax.fleet._settings import Contexts

        # Objects of other formats may be bound to something that differs for each; an envelope's context is a text.
        patterns = Contexts(self.pairs, suffix="")
        return ctx.ContextPatterns(bound, lambda stored: patterns.refusal(stored, relpath or ""))


def _ending(ctx: click.Context, param: click.Parameter, value: str) -> str:
    # What works on several formats, or in place, may take every name.
    if not (is_suffix(value) or (not value and ctx.info_name in ("decrypt", "inspect", "rewrap", "verify"))):
        raise click.BadParameter(
            f"'{printable(value)}' is not a suffix; it must not be empty or contain '/'", ctx, param
        )
    return value


suffix = click.option(
    "--suffix", default=SUFFIX, show_default=True, callback=_ending, help="The suffix of envelope names."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
force = click.option("--force", is_flag=True, help="Overwrite existing files.")


def refuse_into(place: str) -> None:
    """Refuse a value of --into below which nothing can be written."""
    refuse_mistyped(place)
    is_folder = bool(place) and place != "-" and (not os.path.lexists(place) or os.path.isdir(place))
    if not (is_s3(place) or is_folder):
        raise click.UsageError(f"--into takes a folder or an s3:// prefix, and '{printable(place)}' is neither")


def workers(what: str) -> Callable[[Command], Command]:
    """Add --workers; the command gets ``workers``."""
    return click.option("--workers", type=click.IntRange(1, MAX_WORKERS), default=WORKERS, show_default=True, help=what)


def targets(what: str) -> Callable[[Command], Command]:
    """Add --to; the command gets ``targets``."""

    def few(_context: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
        refuse_too_many(names, "--to")
        return names

    return click.option("--to", "targets", multiple=True, required=True, metavar="KEY", callback=few, help=what)


def _read_settings(context: click.Context, _param: click.Parameter, ignored: bool) -> None:
    if ignored or context.resilient_parsing:  # a shell that completes a command
        return
    if named := os.environ.get(settingsfile.VARIABLE):
        console.need(named)
    state = context.ensure_object(RunState)
    try:
        settings = state.settings = settingsfile.read()
    except SettingsError as error:
        if context.command.name != "doctor":
            raise
        state.refused_settings = error  # one of its findings
        return
    if settings is not None:
        state.needed.add(os.path.realpath(settings.path))
        # click takes these for options that are neither typed nor in the environment.
        context.default_map = layers.of_runs(settings)


no_settings = click.option(
    "--no-settings",
    is_flag=True,
    is_eager=True,  # other options take their defaults from the settings
    expose_value=False,
    callback=_read_settings,
    help="Do not read sealwax.toml or pyproject.toml.",
)


def account(command: Command) -> Command:
    """Add the options that select a KMS, except for its Region; the command gets ``aws``.

    They come with --no-settings: whatever uses AWS reads the settings file.
    """

    @click.option("--profile", metavar="NAME", help="The AWS profile to use.")
    @click.option(
        "--endpoint-url",
        metavar="URL",
        help="Use KMS at this endpoint, such as that of `sealwax lab serve`; S3 is not affected.",
    )
    @click.option(
        "--lab",
        metavar="DIR",
        envvar="SEALWAX_LAB",
        show_envvar=True,
        help="Use the lab in this folder instead of AWS KMS.",
    )
    @no_settings
    @click.pass_context
    @functools.wraps(command)
    def wrapped(
        context: click.Context,
        /,
        *args: object,
        profile: str | None,
        endpoint_url: str | None,
        lab: str | None,
        **kwargs: object,
    ) -> object:
        # Either option means a KMS other than the lab, and what was typed wins over the environment.
        own_profile = context.get_parameter_source("profile") is not ParameterSource.DEFAULT_MAP
        aws_option = "--endpoint-url" if endpoint_url else "--profile" if profile and own_profile else None
        typed = context.get_parameter_source("lab") is not ParameterSource.ENVIRONMENT
        if lab == "" and typed:
            # An unset shell variable behind --lab must not lead to AWS.
            raise click.UsageError("--lab is empty; name a folder")
        if lab and aws_option:
            if typed:
                raise click.UsageError(f"use --lab or {aws_option}, not both")
            console.info(f"ignoring SEALWAX_LAB, because {aws_option} was given")
            lab = None
        if lab and not own_profile:
            profile = None  # a lab needs none, and may stand for an account that nobody has yet
        state = current()
        state.profile = profile
        region = (context.default_map or {}).get("region")
        layers.announce_command(context, lab or None)
        return command(*args, aws=Aws(profile, region, endpoint_url, lab or None, state.sessions), **kwargs)

    return wrapped


def aws(command: Command) -> Command:
    """Add the options that select a KMS; the command gets ``aws``."""

    @click.option("--region", metavar="REGION", help="The AWS Region for S3, and for keys that are named without one.")
    @account
    @functools.wraps(command)
    def wrapped(*args: object, region: str | None, aws: Aws, **kwargs: object) -> object:
        current().region = region
        return command(*args, aws=replace(aws, region=region), **kwargs)

    return wrapped


def keys(command: Command) -> Command:
    """Add -k and the options that select a KMS; the command gets ``keys``."""

    @click.option(
        "-k",
        "--key",
        "key_names",
        multiple=True,
        metavar="KEY",
        help="A KMS key: key ID, key ARN, alias/NAME or alias ARN; repeatable. Default: SEALWAX_KEY, or the settings.",
    )
    @click.option(
        "--local-context",
        "local_context",
        multiple=True,
        metavar="NAME",
        help="The name of a context pair that binds the data, but is neither stored nor sent to KMS; repeatable.",
    )
    @click.option(
        "--metrics", is_flag=True, help="At the end, print how many KMS calls were made and saved, and their cost."
    )
    @aws
    @functools.wraps(command)
    def wrapped(
        *args: object,
        key_names: tuple[str, ...],
        local_context: tuple[str, ...],
        metrics: bool,
        aws: Aws,
        **kwargs: object,
    ) -> object:
        keys = Keys(key_names or layers.named_keys(), aws, local_context, current().settings)
        try:
            return command(*args, keys=keys, **kwargs)
        finally:
            if metrics and keys.sealers:
                keys.print_metrics()

    return wrapped


def foreign(command: Command) -> Command:
    """Add the options for formats of other programs, below those of ``keys``."""

    @click.option(
        "--allow-legacy",
        "legacy",
        multiple=True,
        type=click.Choice(LEGACY),
        metavar="NAME",
        help="Also read this format, which does not commit to its data key, such as esdk-0178; repeatable.",
    )
    @click.option(
        "--unstored-context",
        "unstored_context",
        multiple=True,
        metavar="NAME",
        help="The name of a pair that an AWS Encryption SDK message is bound to, but does not store; repeatable.",
    )
    @click.option(
        "--format",
        "unmarked",
        type=click.Choice(UNMARKED),
        metavar="NAME",
        help="Also read files of this format, which nothing marks: boto3-fernet, the one of the boto3 guide.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: object,
        keys: Keys,
        legacy: tuple[str, ...],
        unstored_context: tuple[str, ...],
        unmarked: str | None,
        **kwargs: object,
    ) -> object:
        names = legacy if unmarked is None else (*legacy, unmarked)
        return command(*args, keys=replace(keys, legacy=names, unstored_context=unstored_context), **kwargs)

    return wrapped


def context(*, stored: bool, of_files: bool = True, typed_only: bool = False) -> Callable[[Command], Command]:
    """Add the options that give the context; the command gets ``template``.

    Args:
        stored: whether the context that an envelope stores may be accepted.
        of_files: whether it is for files, whose paths and names replace ``{relpath}`` and ``{name}``. Braces have to be
            doubled everywhere, so that a context can be pasted from one verb to another.
        typed_only: whether SEALWAX_CONTEXT and the settings file do not count.
    """
    placeholders = "{relpath} and {name} become each file's path and name; write" if of_files else "Write"
    about = f"A pair of the encryption context; repeatable. {placeholders} {{{{name}}}} for a literal {{name}}."
    if not typed_only:
        about += " SEALWAX_CONTEXT and the settings add pairs."

    def decorate(command: Command) -> Command:
        @click.option(
            "-c",
            "--context",
            "pairs",
            multiple=True,
            metavar="NAME=VALUE",
            help=about,
        )
        @click.option(
            "--context-file",
            metavar="FILE.json",
            type=click.Path(exists=True, dir_okay=False),
            help="A file with more pairs: a JSON object of strings.",
        )
        @click.option("--no-context", is_flag=True, help="Use no encryption context.")
        @functools.wraps(command)
        def wrapped(
            *args: object,
            pairs: tuple[str, ...],
            context_file: str | None,
            no_context: bool,
            accept_stored_context: bool = False,
            **kwargs: object,
        ) -> object:
            template = _template(pairs, context_file, no_context, accept_stored_context)
            if not typed_only:
                template = _completed(template)
            return command(*args, template=template, **kwargs)

        if not stored:
            return wrapped
        return click.option(
            "--accept-stored-context",
            is_flag=True,
            help="Trust the context in the envelope; it must contain the pairs of -c. Give local pairs with -c.",
        )(wrapped)

    return decorate


def _template(
    pairs: tuple[str, ...], context_file: str | None, no_context: bool, accept_stored: bool
) -> ContextTemplate:
    context = typed_pairs(pairs, context_file)
    if no_context and (context or accept_stored):
        raise click.UsageError("--no-context cannot be combined with other context options")
    return ContextTemplate(context, no_context, accept_stored, context)


def typed_pairs(pairs: tuple[str, ...], context_file: str | None) -> dict[str, str]:
    """Return the pairs of -c and --context-file, with their braces as they were typed."""
    context: dict[str, str] = {}

    def add(name: str, value: str) -> None:
        if context.setdefault(name, value) != value:
            raise click.UsageError(f"the context name '{printable(name)}' was given twice, with different values")
        try:
            ctx.placeholders(value)
        except ContextError as error:
            raise click.UsageError(f"the context value of '{printable(name)}': {error}") from None

    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"-c takes NAME=VALUE, not '{printable(pair)}'")
        add(name, value)
    if context_file is not None:
        for name, value in _read_context_file(context_file):
            add(name, value)
    return context


def _completed(template: ContextTemplate) -> ContextTemplate:
    """Add the pairs of SEALWAX_CONTEXT and of the top of the settings file."""
    settings, params = current().settings, click.get_current_context().params
    top = () if settings is None else (settings.top,)
    local = params.get("local_context", ())
    variable = {} if template.none else layers.context_variable()
    rules = () if settings is None else settings.rules
    known = {*template.typed, *variable}.union(*(layer.context for layer in (*top, *rules)))
    if unknown := [name for name in local if name not in known]:
        # Misspelled, it would not keep the pair from being stored and sent to KMS.
        raise click.UsageError(
            f"--local-context lists '{printable(unknown[0])}', and no pair has this name; give it with -c NAME=VALUE"
        )
    completed = replace(template, variable=variable, local=local).of(top)
    if "local_context" in params:
        return completed
    # Without --local-context, it is a context that KMS and headers have.
    unsent = [name for name in local_of(top) if name not in template.typed]
    return replace(completed, pairs={name: value for name, value in completed.pairs.items() if name not in unsent})


def _read_context_file(path: str) -> list[tuple[str, str]]:
    text = console.read_text(path, _CONTEXT_FILE, _MAX_CONTEXT_FILE)
    try:
        pairs: object = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise click.UsageError(f"'{printable(path)}' is not valid JSON") from None
    is_pairs = isinstance(pairs, list) and all(isinstance(pair, tuple) and isinstance(pair[1], str) for pair in pairs)
    # An empty array is the same list as an empty object.
    if not isinstance(pairs, list) or not is_pairs or text.lstrip().startswith("["):
        raise click.UsageError(f"'{printable(path)}' is not a JSON object whose values are all strings")
    return [(name, value) for name, value in pairs]
