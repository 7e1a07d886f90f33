"""How botocore comes by credentials: never through standard input, which is data.

By itself botocore asks for the code of an MFA device with getpass, which reads standard input where there is no
terminal, and it starts a ``credential_process`` that inherits standard input. Either may take the beginning of the data
away, and what is then sealed is not what was given. Here a code is asked for at the controlling terminal or not at all,
and such a program has nothing to read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import termios
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import botocore.exceptions as foreign
from botocore.credentials import AssumeRoleProvider, Credentials, ProcessProvider

from sealwax._aws.origins import spoken
from sealwax._core.context import printable
from sealwax.errors import CredentialsError

if TYPE_CHECKING:
    from botocore.session import Session as BotocoreSession

# botocore's names of two ways to credentials.
ASSUME_ROLE: Final = "assume-role"
_PROCESS: Final = "custom-process"
LONGEST_WAIT_SECONDS: Final = 300.0
_TERMINAL: Final = "/dev/tty"
_CODE: Final = re.compile(r"[0-9]{6}")


def guard(core: BotocoreSession) -> None:
    """Keep all that finds a session's credentials away from standard input.

    Raises:
        BotoCoreError: botocore's; the user's AWS settings cannot be read.
    """
    for provider in core.get_component("credential_provider").providers:
        _guard(provider, core)


def _guard(provider: Any, core: BotocoreSession) -> None:
    kind = type(provider)
    if issubclass(kind, ProcessProvider):
        provider._popen = CredentialProcess
    elif issubclass(kind, AssumeRoleProvider):
        provider._prompter = _Prompter(core)
        # It makes the providers of a source profile, which may have a program too.
        provider._profile_provider_builder = _Builder(provider._profile_provider_builder, core)


class _Builder:
    """botocore's maker of the providers of one profile, each of them guarded."""

    def __init__(self, inner: Any, core: BotocoreSession) -> None:
        self._inner = inner
        self._core = core

    def providers(self, profile_name: str, disable_env_vars: bool = False) -> Any:
        found = self._inner.providers(profile_name=profile_name, disable_env_vars=disable_env_vars)
        for provider in found:
            _guard(provider, self._core)
        return found


class Shared:
    """Stands where a session looks for credentials, and gives it those of another one: nobody is asked twice."""

    def __init__(self, other: BotocoreSession) -> None:
        self._other = other

    def load_credentials(self) -> Credentials | None:
        return self._other.get_credentials()


class CredentialProcess(subprocess.Popen[bytes]):
    """A ``credential_process``, with nothing to read. What it does wrong is an error about credentials.

    It has :data:`LONGEST_WAIT_SECONDS` to end, in which a person may sign in at a browser.
    """

    def __init__(self, command: list[str], **settings: Any) -> None:
        self._name = printable(" ".join(command[:1]))
        if not self._name:
            raise self._failure("it names no program")
        try:
            super().__init__(command, stdin=subprocess.DEVNULL, **settings)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise self._failure(f"it cannot be run ({why})") from None

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:  # noqa: A002
        wait = LONGEST_WAIT_SECONDS if timeout is None else timeout
        try:
            out, err = super().communicate(input, wait)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
            for pipe in (self.stdout, self.stderr):
                if pipe is not None:
                    pipe.close()  # what it has started may still hold the other end
            failure = self._failure(f"it has not ended within {wait:g} s, and was killed")
        else:
            why = self._what_is_wrong(out, err)
            if not why:
                return out, err
            failure = self._failure(why)
        raise failure

    def _what_is_wrong(self, out: bytes, err: bytes) -> str:
        if self.returncode != 0:
            ended = f"it ended with status {self.returncode}" if self.returncode > 0 else "it was killed"
            # It may say what it would have printed.
            said = spoken(err.decode("utf-8", "replace").strip(), (out.decode("utf-8", "replace"),))
            return f"{ended}{': ' if said else ''}{said}"
        try:
            answer = json.loads(out)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            return "it printed no JSON object, and it has no standard input to ask at"
        if answer.get("Version") != 1:
            return "it printed no Version 1, the only one there is"
        for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
            if not isinstance(answer.get(name, ""), str) or (name != "SessionToken" and not answer.get(name)):
                return f"it printed no text for {name}"
        return self._when_it_ends(answer.get("Expiration"))

    @staticmethod
    def _when_it_ends(expiration: object) -> str:
        if expiration is None:
            return ""
        try:
            until = datetime.fromisoformat(str(expiration))
        except ValueError:
            return ""  # botocore knows more ways to write it
        expired = until.tzinfo is not None and until <= datetime.now(UTC)
        return "what it printed has expired already" if expired else ""

    def _failure(self, why: str) -> foreign.CredentialRetrievalError:
        return foreign.CredentialRetrievalError(provider=_PROCESS, error_msg=f"'{self._name}': {why}")


def wants_code(core: BotocoreSession) -> bool:
    """Whether a session's profile is of a role that an MFA code is needed for.

    Raises:
        BotoCoreError: botocore's; the user's AWS settings cannot be read.
    """
    profiles: dict[str, dict[str, Any]] = core.full_config.get("profiles", {})
    name: Any = _profile(core)
    seen: set[str] = set()
    # What is written over several lines is no text.
    while isinstance(name, str) and name in profiles and name not in seen:
        seen.add(name)
        if "role_arn" in profiles[name] and "mfa_serial" in profiles[name]:
            return True
        name = profiles[name].get("source_profile")
    return False


def _profile(core: BotocoreSession) -> str:
    return core.get_config_variable("profile") or "default"


class _Prompter:
    """Asks for an MFA code at the controlling terminal; botocore calls it with its own words."""

    def __init__(self, core: BotocoreSession) -> None:
        self._core = core

    def __call__(self, prompt: str) -> str:
        role = self._core.get_scoped_config().get("role_arn", "")
        profile = printable(_profile(self._core))
        who = f"AWS profile '{profile}', {printable(str(role))}"
        typed = _ask(f"sealwax: {who}. {printable(prompt)}")
        if typed is None:
            serial = printable(prompt).removeprefix("Enter MFA code for ").rstrip(": ")
            raise CredentialsError(
                f"signing in as {who} failed: it takes an MFA code of {serial}, and there is no terminal to ask for it "
                "at. Run it in the foreground of a terminal, or put temporary credentials into the environment first: "
                f"'aws configure export-credentials --profile {profile} --format env' prints them."
            )
        if _CODE.fullmatch(typed) is None:
            raise CredentialsError(
                f"signing in as {who} failed: what was typed is no MFA code, which has six digits. Run it again."
            )
        return typed


def _ask(prompt: str) -> str | None:
    """Return a line that was typed, unseen, at the controlling terminal; None where there is none to ask at."""
    try:
        terminal = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # The terminal stops whoever reads in the background, for as long as nobody notices.
        if os.tcgetpgrp(terminal) != os.getpgrp():
            return None
        usual = termios.tcgetattr(terminal)
        unseen = [*usual]
        unseen[3] &= ~termios.ECHO
        try:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, unseen)
            os.write(terminal, prompt.encode())
            line = bytearray()
            while not line.endswith(b"\n") and (more := os.read(terminal, 1024)):
                line += more
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, usual)
        os.write(terminal, b"\n")
    except (OSError, termios.error):
        return None
    finally:
        os.close(terminal)
    return line.decode("ascii", "replace").strip()
