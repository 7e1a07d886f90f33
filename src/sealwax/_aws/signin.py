"""Keeps botocore's search for credentials away from standard input, which may be the data to encrypt.

botocore asks for MFA codes with getpass, which reads standard input if there is no terminal, and it starts a
``credential_process`` that inherits standard input. Either could swallow the beginning of the data, and something else
would be encrypted. Here, MFA codes are read from the controlling terminal only, and the process gets no input.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import termios
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import botocore.exceptions as foreign
from botocore.credentials import AssumeRoleProvider, Credentials, ProcessProvider

from sealwax._aws.origins import redacted
from sealwax._text import printable
from sealwax.errors import CredentialsError

if TYPE_CHECKING:
    from botocore.session import Session as BotocoreSession

# botocore's names of two credential methods.
ASSUME_ROLE: Final = "assume-role"
_PROCESS: Final = "custom-process"
LONGEST_WAIT_SECONDS: Final = 300.0
_TERMINAL: Final = "/dev/tty"
_CODE: Final = re.compile(r"[0-9]{6}")
# An access key ID; and a secret key, a token or a part of one, which has letters of both cases and digits. Paths and
# words rarely do.
_LIKE_A_SECRET: Final = re.compile(
    r"A[A-Z]IA[A-Z0-9]{12,}|(?=[\w+/=-]*[a-z])(?=[\w+/=-]*[A-Z])(?=[\w+/=-]*[0-9])[\w+/=-]{20,}", re.ASCII
)


def guard(core: BotocoreSession) -> None:
    """Keep a session's credential providers away from standard input.

    Raises:
        BotoCoreError: the AWS settings cannot be read.
    """
    for provider in core.get_component("credential_provider").providers:
        _guard(provider, core)


def _guard(provider: Any, core: BotocoreSession) -> None:
    kind = type(provider)
    if issubclass(kind, ProcessProvider):
        provider._popen = CredentialProcess
    elif issubclass(kind, AssumeRoleProvider):
        provider._prompter = _Prompter(core)
        # It builds the providers of a source profile, which may run a program too.
        provider._profile_provider_builder = _GuardedBuilder(provider._profile_provider_builder, core)


class _GuardedBuilder:
    """botocore's builder of a profile's credential providers; guards each of them."""

    def __init__(self, inner: Any, core: BotocoreSession) -> None:
        self._inner = inner
        self._core = core

    def providers(self, profile_name: str, disable_env_vars: bool = False) -> list[object]:
        providers: list[object] = self._inner.providers(profile_name=profile_name, disable_env_vars=disable_env_vars)
        for provider in providers:
            _guard(provider, self._core)
        return providers


class SharedCredentials:
    """Takes the place of a session's credential lookup and returns another session's, so nobody is prompted twice."""

    def __init__(self, other: BotocoreSession) -> None:
        self._other = other

    def load_credentials(self) -> Credentials | None:
        return self._other.get_credentials()


class CredentialProcess(subprocess.Popen[bytes]):
    """A ``credential_process`` without standard input, whose failures are errors about credentials.

    It may take ``LONGEST_WAIT_SECONDS``, enough to sign in with a browser.
    """

    def __init__(self, command: list[str], **settings: Any) -> None:
        self._name = printable(" ".join(command[:1]))
        if not self._name:
            raise self._failure("the setting names no program")
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
                    pipe.close()  # a child of it may still hold the other end
            failure = self._failure(f"it did not finish within {wait:g} s and was killed")
        else:
            why = self._defect(out, err)
            if not why:
                return out, err
            failure = self._failure(why)
        raise failure

    def _defect(self, out: bytes, err: bytes) -> str:
        if self.returncode != 0:
            ended = f"it exited with status {self.returncode}" if self.returncode > 0 else "it was killed"
            # Its error output may repeat its output, or have other credentials.
            said = _LIKE_A_SECRET.sub("***", err[:2_000].decode("utf-8", "replace").strip())
            words = redacted(said, (out.decode("utf-8", "replace"),))
            return f"{ended}{': ' if words else ''}{words}"
        try:
            answer = json.loads(out)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            return "it did not print a JSON object (it cannot prompt: it has no standard input)"
        if answer.get("Version") != 1:
            return "its output does not have Version 1, the only valid one"
        for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
            if not isinstance(answer.get(name, ""), str) or (name != "SessionToken" and not answer.get(name)):
                return f"its output has no text for {name}"
        return self._expiry_defect(answer.get("Expiration"))

    @staticmethod
    def _expiry_defect(expiration: object) -> str:
        if expiration is None:
            return ""
        try:
            until = datetime.fromisoformat(str(expiration))
        except ValueError:
            return ""  # botocore reads more formats
        expired = until.tzinfo is not None and until <= datetime.now(UTC)
        return "the credentials it printed have already expired" if expired else ""

    def _failure(self, why: str) -> foreign.CredentialRetrievalError:
        return foreign.CredentialRetrievalError(provider=_PROCESS, error_msg=f"'{self._name}': {why}")


def wants_code(core: BotocoreSession) -> bool:
    """Whether a session's profile uses a role that needs an MFA code.

    Raises:
        BotoCoreError: the AWS settings cannot be read.
    """
    return any("role_arn" in profile and "mfa_serial" in profile for profile in _profiles_used(core))


def may_prompt(core: BotocoreSession) -> bool:
    """Whether looking up a session's credentials may ask somebody: for an MFA code, or by a program of the user.

    Raises:
        BotoCoreError: the AWS settings cannot be read.
    """
    return wants_code(core) or any("credential_process" in profile for profile in _profiles_used(core))


def _profiles_used(core: BotocoreSession) -> Iterator[dict[str, object]]:
    """Yield the settings of a session's profile, and of the profiles that it takes credentials from."""
    profiles: dict[str, dict[str, object]] = core.full_config.get("profiles", {})
    name: object = _profile(core)
    seen: set[str] = set()
    # A value written over several lines is not a str.
    while isinstance(name, str) and name in profiles and name not in seen:
        seen.add(name)
        yield profiles[name]
        name = profiles[name].get("source_profile")


def _profile(core: BotocoreSession) -> str:
    return core.get_config_variable("profile") or "default"


class _Prompter:
    """Asks for an MFA code at the controlling terminal; botocore passes the prompt."""

    def __init__(self, core: BotocoreSession) -> None:
        self._core = core

    def __call__(self, prompt: str) -> str:
        role = self._core.get_scoped_config().get("role_arn", "")
        profile = printable(_profile(self._core))
        identity = f"AWS profile '{profile}', {printable(str(role))}"
        code = _read_from_terminal(f"sealwax: {identity}. {printable(prompt)}")
        if code is None:
            serial = printable(prompt).removeprefix("Enter MFA code for ").rstrip(": ")
            raise CredentialsError(
                f"signing in as {identity} failed: it needs an MFA code from {serial}, and there is no terminal to "
                "prompt on. Run the command in the foreground of a terminal, or set temporary credentials in the "
                f"environment first: 'aws configure export-credentials --profile {profile} --format env' prints them."
            )
        if _CODE.fullmatch(code) is None:
            raise CredentialsError(
                f"signing in as {identity} failed: an MFA code has six digits. Run the command again."
            )
        return code


def _read_from_terminal(prompt: str) -> str | None:
    """Return a line typed at the controlling terminal, without echo; None if there is no terminal."""
    try:
        terminal = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # A background process that reads the terminal is stopped, and would hang unnoticed.
        if os.tcgetpgrp(terminal) != os.getpgrp():
            return None
        before = termios.tcgetattr(terminal)
        silent = [*before]
        silent[3] &= ~termios.ECHO
        try:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
            os.write(terminal, prompt.encode())
            line = bytearray()
            while not line.endswith(b"\n") and (more := os.read(terminal, 1024)):
                line += more
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        os.write(terminal, b"\n")
    except (OSError, termios.error):
        return None
    finally:
        os.close(terminal)
    return line.decode("ascii", "replace").strip()
