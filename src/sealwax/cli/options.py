"""Options that several verbs share, and what is made of them: a session, keyrings, a context for each file."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from sealwax._core import context as ctx
from sealwax._core import trusted
from sealwax._core.context import AcceptStoredContext, NoContext, printable
from sealwax.cli import console, locations, sessions
from sealwax.errors import ContextError, FileError, LabError, SealwaxError

if TYPE_CHECKING:
    from sealwax._aws.session import Session
    from sealwax._core.keyring import Keyring
    from sealwax._core.sealer import Sealer
    from sealwax.lab import Lab

Command = Callable[..., Any]

_CONTEXT_FILE: Final = trusted.Kind("the context file", FileError)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Several times what the largest context takes, with every character escaped.
_MAX_CONTEXT_FILE: Final = 1 << 20
# How long one run uses a data key that KMS has opened for it.
_OPENED_KEY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Aws:
    """Where KMS is: AWS as the environment sets it up, another endpoint, or the lab."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    lab: str | None = None

    def session(self) -> Session:
        """Return the session to take KMS clients from.

        Raises:
            LabError: the lab cannot be opened.
            KmsError: there is no such profile, or its credentials cannot be had.
        """
        if self.lab is not None:
            from sealwax._aws.session import at_endpoint, read_settings

            console.tell(f"using the lab in {printable(os.fsdecode(self.lab))}, not AWS")
            lab = open_lab(self.lab)
            if context := click.get_current_context(silent=True):  # an executor of Spark's runs no command
                context.call_on_close(lab.close)
            session = read_settings(lambda: lab.session(region=self.region))
            missing = read_settings(lambda: _named_profile() not in (None, *session.available_profiles))
            if missing:
                console.tell(f"there is no AWS profile '{printable(str(_named_profile()))}'; the lab goes on without")
            return session
        from sealwax._aws.session import at_endpoint, read_settings

        return at_endpoint(sessions.session(self.profile, self.region), self.endpoint_url)


def _named_profile() -> str | None:
    """Return the profile that the environment names to boto3."""
    return os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE") or None


def open_lab(folder: str, key_file: str | None = None, *, make: bool = False) -> Lab:
    """Open a lab, with the passphrase or the key file that the environment names if it is protected.

    Args:
        make: whether to make a new one where there is none; a mistyped name must not.

    Raises:
        LabError: it cannot be opened, or there is none.
    """
    from sealwax.lab import Lab

    if not make and (missing := no_lab(folder)):
        raise LabError(
            f"there is no lab in {missing}; check the name given with --lab or in SEALWAX_LAB, or make a new lab with: "
            f"sealwax lab create-key --lab {printable(shlex.quote(os.fsdecode(folder)))}"
        )
    key_file = key_file or os.environ.get("SEALWAX_LAB_KEY_FILE") or None
    if key_file is not None:
        console.claim(key_file)
    return Lab(folder, passphrase=os.environ.get("SEALWAX_LAB_PASSPHRASE"), key_file=key_file)


def no_lab(folder: str) -> str:
    """Return the place and what is there instead of a lab; "" where one is, or where opening it says what is wrong."""
    try:
        if os.listdir(folder):
            return ""
        found = "that folder is empty"
    except FileNotFoundError:
        found = "that link leads nowhere" if os.path.islink(folder) else "there is no such folder"
    except (OSError, ValueError):
        return ""
    return f"'{printable(os.path.abspath(os.fsdecode(folder)))}': {found}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The KMS keys named with -k, and how to reach them."""

    names: tuple[str, ...]
    aws: Aws
    local_context: tuple[str, ...] = ()
    sealers: list[Sealer] = field(default_factory=list)  # those that were made, for --metrics

    def to_encrypt(self) -> tuple[Sealer, Keyring]:
        """Return a sealer that makes data keys under these keys, and what it makes them with.

        Raises:
            click.UsageError: no key was named.
        """
        if not self.names:
            raise click.UsageError("name a KMS key with -k, or in SEALWAX_KEY")
        keyring = self._keyring()
        return self._sealer(keyring), keyring

    def to_decrypt(self, sources: Sequence[str]) -> Sealer:
        """Return a sealer that opens what is wrapped under these keys, and nothing else.

        Raises:
            click.UsageError: no key was named; it says which ones the first envelope is wrapped under.
        """
        if not self.names:
            raise click.UsageError(f"name the KMS keys that may open it with -k, or in SEALWAX_KEY{_hint(sources)}")
        from sealwax._core.cache import CachingKeyring

        # Values that a program has sealed under one cached data key cost one call for all of them here, too.
        return self._sealer(CachingKeyring(self._keyring(), max_age=_OPENED_KEY_SECONDS))

    def to_reencrypt(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[Sealer, Keyring]:
        """Return a sealer that opens what is wrapped under these keys and encrypts under ``targets``, and its keyring.

        Raises:
            click.UsageError: no key was named; it says which ones the first envelope is wrapped under.
        """
        if not self.names:
            raise click.UsageError(f"name the KMS keys that may open it with -k, or in SEALWAX_KEY{_hint(sources)}")
        from sealwax.kms import KmsKeyring

        refuse_too_many(self.names, "-k")
        keyring = KmsKeyring(list(targets), decrypt_with=list(self.names), session=self.aws.session())
        return self._sealer(keyring), keyring

    def _keyring(self) -> Keyring:
        from sealwax.kms import KmsKeyring

        refuse_too_many(self.names, "-k")
        key = self.names[0] if len(self.names) == 1 else list(self.names)
        return KmsKeyring(key, session=self.aws.session())

    def _sealer(self, keyring: Keyring) -> Sealer:
        from sealwax._core.sealer import Sealer

        self.sealers.append(Sealer(keyring, local_context=self.local_context))
        return self.sealers[-1]

    def tell_metrics(self) -> None:
        """Say what was asked of KMS, and what that costs."""
        from sealwax.events import USD_PER_10_000_CALLS, KmsStats

        stats = sum((sealer.stats() for sealer in self.sealers), KmsStats())
        free = " (the lab is free)" if self.aws.lab else ""
        failed = f", {stats.failures} of them failed" if stats.failures else ""
        console.say(
            f"KMS calls made: {stats.calls}{failed}; saved by caching: {stats.saved}; "
            f"cost: {stats.cost_usd:.6f} USD at {USD_PER_10_000_CALLS} USD per 10,000{free}"
        )


class Duration(click.ParamType):  # type: ignore[type-arg]  # no generic in older releases
    """A time as people write it, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        if match is None or not int(match[1]):
            self.fail(f"'{printable(str(value))}' is no time such as 90s, 50m, 8h or 30d", param, ctx)
        return float(int(match[1]) * _SECONDS[match[2]])


def refuse_too_many(names: Sequence[str], option: str) -> None:
    """Refuse more keys than an envelope takes.

    Raises:
        click.UsageError: there are more.
    """
    from sealwax.kms._keyring import MAX_KEYS

    if len(names) > MAX_KEYS:
        raise click.UsageError(f"{option} takes up to {MAX_KEYS} keys, not {len(names)}")


def _hint(sources: Sequence[str]) -> str:
    """Return what the first envelope says it is wrapped under; no key is trusted because a file says so."""
    source = sources[0] if sources else "-"
    if source == "-" or os.path.isdir(source) or locations.is_prefix(source):
        return ""
    try:
        arns = ", ".join(f"'{ctx.printable(key.key_arn)}'" for key in locations.inspect(source).wrapped_keys)
    except SealwaxError as error:
        return f" ({console.shown(source)}: {error})"
    return f"; {console.shown(source)} says it is wrapped under {arns}"


@dataclass(frozen=True, slots=True)
class ContextTemplate:
    """The context as typed. ``{relpath}`` and ``{name}`` stand for each file's own."""

    pairs: Mapping[str, str] = field(default_factory=dict)
    none: bool = False
    accept_stored: bool = False

    def _filled(self, relpath: str | None) -> dict[str, str]:
        if relpath is None:
            marks = [match[0] for value in self.pairs.values() for match in ctx.BRACED.finditer(value)]
            if any(mark in ctx.PLACEHOLDERS for mark in marks):
                raise click.UsageError(
                    "{relpath} and {name} stand for a file's own path and name, and there is no file with a name here; "
                    "write {{relpath}} and {{name}} for these texts themselves"
                )
        # In one pass, so that a file's name that looks like a placeholder stays what it is.
        return {
            key: ctx.BRACED.sub(lambda match: ctx.placed(match[0], relpath or ""), value)
            for key, value in self.pairs.items()
        }

    def of_no_file(self) -> dict[str, str]:
        """Return the pairs where there is no file.

        Raises:
            click.UsageError: one has a placeholder for a file's own.
        """
        return self._filled(None)

    def to_bind(self, relpath: str | None) -> Mapping[str, str] | NoContext:
        """Return the context to encrypt a file with.

        Raises:
            ContextError: none was given.
        """
        if self.none:
            return ctx.NO_CONTEXT
        if not self.pairs:
            raise ContextError(
                "no context was given: bind the data to its place with -c NAME=VALUE, or say --no-context"
            )
        return self._filled(relpath)

    def to_expect(self, relpath: str | None) -> ctx.ExpectedContext:
        """Return the context to hold a file's own against.

        Raises:
            ContextError: none was given.
        """
        if self.accept_stored:
            return AcceptStoredContext(self._filled(relpath))
        if not self.pairs and not self.none:
            raise ContextError(
                "no context was given: say what the data is bound to with -c NAME=VALUE, trust what the envelope says "
                "with --accept-stored-context, or say --no-context"
            )
        return self.to_bind(relpath)


def loudness(command: Command) -> Command:
    """Add -q and -v."""

    # Eager and set by the parser itself, since other options have something to say before the verb begins.
    def be(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
        return lambda _context, _param, value: setattr(console, name, value)

    quiet = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=be("quiet"),
        help="Say nothing but errors.",
    )
    verbose = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=be("verbose"),
        help="Should sealwax itself fail, show where.",
    )
    return quiet(verbose(command))


def _ending(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value or "/" in value:
        raise click.BadParameter(f"'{printable(value)}' cannot be the end of a name", ctx, param)
    return value


suffix = click.option(
    "--suffix", default=".swx", show_default=True, callback=_ending, help="What an envelope's name ends with."
)
force = click.option("--force", is_flag=True, help="Replace files that are there.")


def workers(what: str) -> Callable[[Command], Command]:
    """Add --workers; the command gets ``workers``."""
    return click.option("--workers", type=click.IntRange(1, 256), default=8, show_default=True, help=what)


def targets(what: str) -> Callable[[Command], Command]:
    """Add --to; the command gets ``targets``."""

    def few(_context: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
        refuse_too_many(names, "--to")
        return names

    return click.option("--to", "targets", multiple=True, required=True, metavar="KEY", callback=few, help=what)


def account(command: Command) -> Command:
    """Add the options that say which KMS is meant, but for its Region; the command gets ``aws``."""

    @click.option("--profile", metavar="NAME", help="The AWS profile to use.")
    @click.option(
        "--endpoint-url",
        metavar="URL",
        help="Another KMS endpoint, such as that of `sealwax lab serve`; S3 stays where it is.",
    )
    @click.option(
        "--lab",
        metavar="DIR",
        envvar="SEALWAX_LAB",
        show_envvar=True,
        help="Use the lab in a folder instead of AWS KMS.",
    )
    @click.pass_context
    @functools.wraps(command)
    def wrapped(
        context: click.Context,
        /,
        *args: Any,
        profile: str | None,
        endpoint_url: str | None,
        lab: str | None,
        **kwargs: Any,
    ) -> Any:
        # Both say that it is not the lab which is meant; what was typed wins over the environment.
        aws_option = "--endpoint-url" if endpoint_url else "--profile" if profile else None
        typed = context.get_parameter_source("lab") is not ParameterSource.ENVIRONMENT
        if lab == "" and typed:
            # An unset variable behind --lab must not lead to AWS.
            raise click.UsageError("--lab names a folder, and was given an empty name")
        if lab and aws_option:
            if typed:
                raise click.UsageError(f"--lab and {aws_option} exclude each other")
            console.tell(f"{aws_option} was given, so SEALWAX_LAB is not used")
            lab = None
        locations.profile = profile
        where = Aws(profile, None, endpoint_url, lab or None)
        return context.invoke(command, *args, aws=where, **kwargs)

    return wrapped


def aws(command: Command) -> Command:
    """Add the options that say where KMS is; the command gets ``aws``."""

    @click.option("--region", metavar="REGION", help="The AWS Region for keys that name none, and for S3.")
    @account
    @functools.wraps(command)
    def wrapped(*args: Any, region: str | None, aws: Aws, **kwargs: Any) -> Any:
        locations.region = region
        return command(*args, aws=replace(aws, region=region), **kwargs)

    return wrapped


def keys(command: Command) -> Command:
    """Add -k and the options that say where KMS is; the command gets ``keys``."""

    @click.option(
        "-k",
        "--key",
        "key_names",
        multiple=True,
        metavar="KEY",
        help="A KMS key: key ID, key ARN, alias/NAME or alias ARN; repeatable. Else SEALWAX_KEY.",
    )
    @click.option(
        "--local-context",
        "local_context",
        multiple=True,
        metavar="NAME",
        help="A context name that is neither stored nor sent to KMS, but binds all the same; repeatable.",
    )
    @click.option(
        "--metrics", is_flag=True, help="Say at the end how many KMS calls were made and saved, and the cost."
    )
    @aws
    @functools.wraps(command)
    def wrapped(
        *args: Any, key_names: tuple[str, ...], local_context: tuple[str, ...], metrics: bool, aws: Aws, **kwargs: Any
    ) -> Any:
        names = key_names or tuple(name for name in (os.environ.get("SEALWAX_KEY"),) if name)
        keys = Keys(names, aws, local_context)
        try:
            return command(*args, keys=keys, **kwargs)
        finally:
            if metrics and keys.sealers:
                keys.tell_metrics()

    return wrapped


def context(*, stored: bool, of_files: bool = True) -> Callable[[Command], Command]:
    """Add the options that give the context; the command gets ``template``.

    Args:
        stored: whether the context that an envelope stores may be accepted.
        of_files: whether it is for files, each of which fills in ``{relpath}`` and ``{name}``. What braces mean is the
            same everywhere, so that one context can be pasted from one verb to another.
    """
    own = " {relpath} and {name} stand for each file's own," if of_files else ""
    own += " {{name}} for the text {name}." if of_files else " {{name}} stands for the text {name}."
    bound = "the data is bound to" if of_files else "of the encryption context"

    def decorate(command: Command) -> Command:
        @click.option(
            "-c",
            "--context",
            "pairs",
            multiple=True,
            metavar="NAME=VALUE",
            help=f"A pair {bound}; repeatable.{own}",
        )
        @click.option(
            "--context-file",
            metavar="FILE.json",
            type=click.Path(exists=True, dir_okay=False),
            help="More pairs: a JSON object of strings.",
        )
        @click.option("--no-context", is_flag=True, help="Bind the data to nothing." if of_files else "No context.")
        @functools.wraps(command)
        def wrapped(
            *args: Any,
            pairs: tuple[str, ...],
            context_file: str | None,
            no_context: bool,
            accept_stored_context: bool = False,
            **kwargs: Any,
        ) -> Any:
            template = _template(pairs, context_file, no_context, accept_stored_context)
            _check_placeholders(template)
            return command(*args, template=template, **kwargs)

        if not stored:
            return wrapped
        return click.option(
            "--accept-stored-context",
            is_flag=True,
            help="Trust the context that the envelope stores; -c then gives what it must have, and the local pairs.",
        )(wrapped)

    return decorate


def _template(
    pairs: tuple[str, ...], context_file: str | None, no_context: bool, accept_stored: bool
) -> ContextTemplate:
    found: dict[str, str] = {}

    def add(name: str, value: str) -> None:
        if found.setdefault(name, value) != value:
            raise click.UsageError(f"the context name '{ctx.printable(name)}' is given twice, with two values")

    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"-c takes NAME=VALUE, not '{ctx.printable(pair)}'")
        add(name, value)
    if context_file is not None:
        for name, value in _read_context_file(context_file):
            add(name, value)
    if no_context and (found or accept_stored):
        raise click.UsageError("--no-context goes with no other context option")
    return ContextTemplate(found, no_context, accept_stored)


def _check_placeholders(template: ContextTemplate) -> None:
    for name, value in template.pairs.items():
        try:
            ctx.placeholders(value)
        except ContextError as error:
            raise click.UsageError(f"the value of '{ctx.printable(name)}' in the context: {error}") from None


def _read_context_file(path: str) -> list[tuple[str, str]]:
    text = console.read_text(path, _CONTEXT_FILE, _MAX_CONTEXT_FILE)
    try:
        pairs: Any = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise click.UsageError(f"'{ctx.printable(path)}' is not valid JSON") from None
    is_pairs = isinstance(pairs, list) and all(isinstance(pair, tuple) and isinstance(pair[1], str) for pair in pairs)
    if not is_pairs:
        raise click.UsageError(f"'{ctx.printable(path)}' is not a JSON object whose values are all strings")
    return [(name, value) for name, value in pairs]
