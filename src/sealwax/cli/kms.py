"""Which KMS a command uses, and the sealers made for the keys named with -k."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeVar

import click

from sealwax._text import printable
from sealwax.cli import console, locations
from sealwax.cli.kms_watch import KmsWatch
from sealwax.cli.settingsfile import Layer, SettingsFile, keys_of, local_of
from sealwax.cli.state import Sessions, current
from sealwax.errors import ConfigurationError, LabError, SealwaxError, SettingsError

if TYPE_CHECKING:
    from sealwax._aws.session import Session
    from sealwax._core.foreign.data_key import ForeignDataKey
    from sealwax._core.format.header import Header
    from sealwax._core.keyring import DataKey, Keyring, WrappedKey
    from sealwax._core.sealer import Sealer
    from sealwax.events import KmsStats
    from sealwax.kms import KmsKeyring, RateLimit
    from sealwax.lab import Lab

T = TypeVar("T")

# More than a run reaches. It is halved while KMS throttles: else threads would fail calls that they could wait for.
_CALLS_PER_SECOND: Final = 1000.0
# How long one run uses a data key that KMS has unwrapped for it.
_CACHED_KEY_SECONDS: Final = 60.0
# The bounds of --share-key, which docs/how-to/caching.md gives.
_SHARED_SECONDS: Final = 300.0
_SHARED_FILES: Final = 100_000
_SHARED_BYTES: Final = 64 << 30


@dataclass(frozen=True, slots=True)
class Aws:
    """Where KMS is: AWS as the environment sets it up, another endpoint, or the lab."""

    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    lab: str | None = None
    sessions: Sessions = field(default_factory=Sessions)

    def session(self) -> Session:
        """Return the session to take KMS clients from."""
        from sealwax._aws.session import at_endpoint, read_settings

        if self.lab is None:
            return at_endpoint(self.sessions.open(self.profile, self.region), self.endpoint_url)
        console.info_once(f"using the lab in {printable(os.path.abspath(os.fsdecode(self.lab)))}, not AWS")
        lab = open_lab(self.lab)
        if context := click.get_current_context(silent=True):  # Spark's executors have none
            context.call_on_close(lab.close)
        session = read_settings(lambda: lab.session(region=self.region))
        profile = os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE") or None
        if read_settings(lambda: profile not in (None, *session.available_profiles)):
            console.info_once(f"AWS profile '{printable(str(profile))}' not found; the lab works without it")
        return self.sessions.watched(session)

    def key_arns(self, names: Sequence[str]) -> list[str]:
        """Return the ARNs of keys. Only a name that is not a key ARN is looked up, with kms:DescribeKey.

        Raises:
            KmsError: KMS did not answer, or refused.
        """
        from sealwax._aws.session import Clients
        from sealwax.kms import _describe, _names

        clients: Clients | None = None
        arns = []
        for name in names:
            arn = name
            try:
                parsed = _names.parse(name)
            except ConfigurationError as error:
                raise click.UsageError(str(error)) from None
            if _names.parse_arn(parsed.text) is None:
                clients = clients or Clients(self.session())
                arn = _describe.describe(name, clients, rotations=False).arn
                console.info(f"{printable(name)} is {printable(arn)}")
            arns.append(arn)
        return arns


def open_lab(folder: str, key_file: str | None = None, *, create: bool = False) -> Lab:
    """Open a lab, with the passphrase or key file that the environment names if it is protected.

    Args:
        create: whether to create a lab if there is none. Only some commands do, so that a mistyped name is an error.
    """
    from sealwax.lab import Lab
    from sealwax.lab._database import FILES

    if not create and (missing := no_lab(folder)):
        raise LabError(
            f"no lab in '{printable(os.path.abspath(os.fsdecode(folder)))}': {missing}. Check --lab or SEALWAX_LAB, or "
            f"create a lab with: sealwax lab create-key --lab {printable(shlex.quote(os.fsdecode(folder)))}"
        )
    key_file = key_file or os.environ.get("SEALWAX_LAB_KEY_FILE") or None
    if key_file is not None:
        console.need(key_file)
    current().of_lab.update(os.path.realpath(os.path.join(folder, name)) for name in FILES)
    return Lab(folder, passphrase=os.environ.get("SEALWAX_LAB_PASSPHRASE"), key_file=key_file)


def no_lab(folder: str) -> str:
    """Return why there is no lab in a folder; "" if there is one, or if only opening it can say."""
    try:
        return "" if os.listdir(folder) else "the folder is empty"
    except FileNotFoundError:
        return "it is a link that leads nowhere" if os.path.islink(folder) else "the folder does not exist"
    except (OSError, ValueError):
        return ""


@dataclass(frozen=True, slots=True)
class Keys:
    """The KMS keys named with -k, in SEALWAX_KEY or in the settings file, and how to reach them.

    Attributes:
        settings: the settings file, which says what else counts for a file; see ``of``.
        legacy, unstored_context: what is read of other formats; see ``Sealer``.
        sealers: those made so far, for --metrics.
    """

    names: tuple[str, ...]
    aws: Aws
    local_context: tuple[str, ...] = ()
    settings: SettingsFile | None = None
    legacy: tuple[str, ...] = ()
    unstored_context: tuple[str, ...] = ()
    sealers: list[Sealer] = field(default_factory=list)  # those made so far, for --metrics
    keyrings: dict[tuple[str, ...], KmsKeyring] = field(default_factory=dict)  # likewise, by the names of their keys
    watch: KmsWatch = field(default_factory=KmsWatch)
    limits: list[RateLimit] = field(default_factory=list)  # of the run: one, once a keyring was made
    _sessions: list[Session] = field(default_factory=list, repr=False)

    def of(self, layers: tuple[Layer, ...]) -> Keys:
        """Return what counts for a file, with what the settings say about it."""
        local = tuple(dict.fromkeys((*self.local_context, *local_of(layers))))
        return replace(self, names=self.names or keys_of(layers), local_context=local)

    def to_encrypt(self, *, share_key: bool = False) -> tuple[Sealer, Keyring]:
        """Return a sealer that generates data keys under these keys, and its keyring.

        Args:
            share_key: whether files with one KMS context share a data key.
        """
        if not self.names:
            raise self._unnamed("name a KMS key with -k or in SEALWAX_KEY")
        keyring: Keyring = self._keyring()
        if share_key:
            from sealwax._core.cache import CachingKeyring

            keyring = CachingKeyring(
                keyring, max_age=_SHARED_SECONDS, max_messages=_SHARED_FILES, max_bytes=_SHARED_BYTES
            )
        return self._sealer(keyring), keyring

    def sealer(self, keyring: Keyring) -> Sealer:
        """Return a sealer for one stream, with a keyring of ``sized``."""
        from sealwax._core.sealer import Sealer

        return Sealer(keyring, local_context=self.local_context)

    def to_decrypt(self, sources: Sequence[str]) -> Sealer:
        """Return a sealer that opens what is wrapped under these keys, and nothing else."""
        self._refuse_none(sources)
        from sealwax._core.cache import CachingKeyring

        # One KMS call also opens all the small envelopes that a program sealed under one cached data key.
        return self._sealer(CachingKeyring(self._keyring(), max_age=_CACHED_KEY_SECONDS))

    def of_records(self) -> KmsKeyring:
        """Return a keyring that makes and unwraps the data keys of records."""
        if not self.names:
            raise self._unnamed("name the KMS key of the records with -k or in SEALWAX_KEY")
        return self._keyring()

    def to_reencrypt(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[Sealer, Keyring]:
        """Return a sealer that opens what is under these keys and encrypts under ``targets``, and its keyring."""
        self._refuse_none(sources)
        keyring = self._keyring(targets)
        return self._sealer(keyring), keyring

    def _refuse_none(self, sources: Sequence[str]) -> None:
        if not self.names:
            by_rule = self.settings is not None and self.settings.rules
            hint = "" if by_rule else _hint(sources)
            raise self._unnamed(f"name the KMS keys that may decrypt it with -k or in SEALWAX_KEY{hint}")

    def _unnamed(self, what: str) -> Exception:
        if self.settings is None:
            return click.UsageError(what)
        lacks = "no rule with a key for it" if self.settings.rules else "no key"
        return SettingsError(f"'{printable(self.settings.path)}' has {lacks}; add one, or {what}")

    def check_allowed(self, header: Header) -> None:
        """Refuse an envelope that none of these keys may open; KMS is not called."""
        from sealwax.kms._keyring import check_allowed

        check_allowed(
            self.keyrings[self.names], [key for reading in header.readings for key in reading.slot.wrapped_keys]
        )

    def _keyring(self, targets: Sequence[str] | None = None) -> KmsKeyring:
        from sealwax.kms import KmsKeyring, RateLimit

        refuse_too_many(self.names, "-k")
        if not self.limits:
            self.limits.append(RateLimit(_CALLS_PER_SECOND))
        names = self.names if targets is None else targets
        self.keyrings[self.names] = KmsKeyring(
            names[0] if len(names) == 1 else list(names),
            decrypt_with=None if targets is None else list(self.names),
            session=self._session(),
            on_event=self.watch,
            limit=self.limits[0],
        )
        return self.keyrings[self.names]

    def _session(self) -> Session:
        if not self._sessions:  # one for all rules of the settings file
            self._sessions.append(self.aws.session())
        return self._sessions[0]

    def _sealer(self, keyring: Keyring) -> Sealer:
        from sealwax._core.sealer import Sealer

        self.sealers.append(
            Sealer(
                keyring,
                local_context=self.local_context,
                allow_legacy=self.legacy,
                unstored_context=self.unstored_context,
            )
        )
        return self.sealers[-1]

    def stats(self) -> KmsStats:
        """Return how many KMS calls were made so far."""
        from sealwax.events import KmsStats

        return sum((sealer.stats() for sealer in self.sealers), KmsStats())

    def print_metrics(self) -> None:
        """Print how many KMS calls were made, and what they cost."""
        from sealwax.events import USD_PER_10_000_CALLS

        stats = self.stats()
        failed = f" ({stats.failures} failed)" if stats.failures else ""
        free = "; the lab is free" if self.aws.lab else ""
        console.warn(
            f"KMS calls: {stats.calls}{failed}; saved by caching: {stats.saved}; "
            f"cost: {stats.cost_usd:.6f} USD ({USD_PER_10_000_CALLS} USD per 10,000 calls{free})"
        )


def sized(keyring: Keyring, size: int) -> Keyring:
    """Return a keyring for one stream of a known size, so that it may share a data key."""
    return _Sized(keyring, size)


class _Sized:
    """A keyring that is told how many bytes a stream has, which a sealer does not know."""

    def __init__(self, keyring: Keyring, size: int) -> None:
        self._keyring = keyring
        self._size = size

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None,  # noqa: ARG002  the sealer gives None
    ) -> T:
        return self._keyring.generate(context, use, plaintext_bytes=self._size)

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        return self._keyring.unwrap(wrapped_keys, context, use)

    def _unwrap_foreign(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[ForeignDataKey], T]
    ) -> T:
        from sealwax._core.foreign.data_key import unwrap_foreign

        return unwrap_foreign(self._keyring, wrapped_keys, context, use)

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        return self._keyring.rewrap(wrapped_keys, context, to)

    def _rewrap_to(
        self,
        wrapped_keys: Sequence[WrappedKey],
        context: Mapping[str, str],
        to: Sequence[str],
        new_context: Mapping[str, str],
    ) -> tuple[WrappedKey, ...]:
        from sealwax._core.foreign.data_key import rewrap_to

        return rewrap_to(self._keyring, wrapped_keys, context, to, new_context)


def named(arn: str, *names: str) -> str:
    """Return a key's ARN, with the aliases beside it that were typed or are known."""
    aliases = dict.fromkeys(name.rpartition(":")[2] for name in names if "alias/" in name)
    return printable(f"{arn} ({', '.join(aliases)})" if aliases else arn)


def refuse_too_many(names: Sequence[str], option: str) -> None:
    """Refuse more keys than an envelope holds."""
    from sealwax.kms._keyring import MAX_KEYS

    if len(names) > MAX_KEYS:
        raise click.UsageError(f"{option} takes up to {MAX_KEYS} keys, not {len(names)}")


def _hint(sources: Sequence[str]) -> str:
    """Return the keys that the first envelope names; they are shown, but not trusted."""
    source = sources[0] if sources else "-"
    if source == "-" or os.path.isdir(source) or locations.is_prefix(source):
        return ""
    try:
        arns = ", ".join(f"'{printable(key.key_arn)}'" for key in locations.inspect(source).wrapped_keys)
    except SealwaxError as error:
        return f" ({console.shown(source)}: {error})"
    return f"; {console.shown(source)} says it is wrapped under {arns}"
