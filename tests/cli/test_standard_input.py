"""Standard input is data: no child program gets it, no code is read from it, and one run asks for a code once."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import sealwax
from sealwax.lab import Server
from tests.cli.conftest import PURPOSE, Keys
from tests.cli.shell import SEALWAX, Shell
from tests.credentials.test_debug import forms
from tests.sts import CODE, CONFIG, ROLE, SECRETS, SERIAL, MfaSts

DATA = b"123456\nthe first line is data too\n" + os.urandom(50_000)
# A program that eats what it may read, writes it down, and gives credentials.
EATER = """#!/bin/sh
cat > {seen}
echo '{{"Version": 1, "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "secret"}}'
"""


@dataclass
class Aws:
    """A KMS and an STS that programs reach over HTTP, and a shell that is set up for both."""

    shell: Shell
    keys: Keys
    sts: MfaSts

    def encrypt(self, *more: str, profile: str = "mfa") -> list[str]:
        return [SEALWAX, "encrypt", "-k", self.keys.demo, *PURPOSE, "--profile", profile, "-o", "out", *more]

    def sealed(self) -> bytes:
        """What was sealed into ``out``."""
        sealed = self.shell.read("out")
        return self.keys.sealer(self.keys.demo).decrypt(sealed, context={"purpose": "backup"})

    def program(self, name: str, text: str) -> str:
        path = self.shell.write(name, text.encode())
        path.chmod(0o700)
        return str(path)


@pytest.fixture
def aws(bare_shell: Shell, keys: Keys) -> Iterator[Aws]:
    server = Server(keys.lab)
    serving = threading.Thread(target=server.serve)
    serving.start()
    seen = bare_shell.folder / "seen"
    with MfaSts() as sts:
        found = Aws(bare_shell, keys, sts)
        eater = found.program("eater", EATER.format(seen=seen))
        config = bare_shell.write("config", f"{CONFIG}\n[profile eater]\ncredential_process = {eater}\n".encode())
        bare_shell.environment |= sts.environment(str(config)) | {"AWS_ENDPOINT_URL_KMS": server.url}
        yield found
    server.close()
    serving.join()


def test_a_code_is_not_read_from_the_data(aws: Aws) -> None:
    """Where there is no terminal to ask at, nothing is asked, and nothing is sealed."""
    done = subprocess.run(
        aws.encrypt("-"),
        cwd=aws.shell.folder,
        env=aws.shell.environment,
        input=DATA,
        capture_output=True,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 7
    said = done.stderr.decode()
    assert said.count("\n") == 1
    assert all(part in said for part in ("'mfa'", ROLE, SERIAL, "no terminal", "aws configure export-credentials"))
    assert not aws.sts.asked
    assert not (aws.shell.folder / "out").exists()


@pytest.mark.parametrize("code", [CODE, "654321"])
def test_a_code_is_asked_for_at_the_terminal_once(aws: Aws, code: str) -> None:
    """Whatever standard input is, and before all else: what is wrong with it is told once for all files."""
    aws.shell.write("a", DATA)
    aws.shell.write("b", DATA)
    command = aws.encrypt("/dev/stdin") if code == CODE else [*aws.encrypt()[:-2], "a", "b"]
    done, shown = _at_a_terminal(command, aws.shell, f"{code}\n", DATA)
    assert shown.count("MFA code") == 1
    assert SERIAL in shown
    assert "'mfa'" in shown
    assert code not in shown
    assert [form["TokenCode"] for form in aws.sts.asked] == [code]
    said = done.stderr.decode()
    if code == CODE:
        assert done.returncode == 0, said
        assert aws.sealed() == DATA  # /dev/stdin means what was piped in, and nothing less
    else:
        assert done.returncode == 7
        assert said.count("\n") == 1
        assert "invalid MFA one time pass code" in said


def test_debug_shows_neither_the_code_nor_the_credentials_nor_the_data_key(aws: Aws) -> None:
    """The bytes of the real data key are those that KMS unwraps from what was written."""
    done, _ = _at_a_terminal(aws.encrypt("--debug", "-"), aws.shell, f"{CODE}\n", DATA)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert f"sealwax: STS AssumeRole {ROLE}: ok in " in said
    assert "Making request for OperationModel(name=GenerateDataKey) with params: [withheld]" in said
    (wrapped,) = sealwax.inspect(aws.shell.folder / "out").wrapped_keys
    kms = aws.keys.lab.session().client("kms")
    key = kms.decrypt(CiphertextBlob=wrapped.ciphertext, EncryptionContext={"purpose": "backup"})["Plaintext"]
    assert len(key) == 32
    for secret in (key, wrapped.ciphertext, CODE.encode(), *map(str.encode, SECRETS)):
        assert not [form for form in forms(secret) if form in said]


def test_a_background_program_asks_nobody(aws: Aws) -> None:
    """To read at a terminal that another program has would stop this one, and nobody would know why."""
    background = ["bash", "-c", 'set -m; "$0" "$@" <&0 & wait $!']
    done, shown = _at_a_terminal([*background, *aws.encrypt("-")], aws.shell, "", DATA)
    assert done.returncode == 7
    assert b"no terminal" in done.stderr
    assert "MFA" not in shown


def _at_a_terminal(
    command: list[str], shell: Shell, typed: str, stdin: bytes
) -> tuple[subprocess.CompletedProcess[bytes], str]:
    """Run a program whose streams are not its controlling terminal; type at its prompt, and return what was shown."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=shell.folder,
        env=shell.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(terminal, termios.TIOCSCTTY, 0),
    )
    shown = bytearray()

    def answer() -> None:
        try:
            while data := os.read(controller, 4096):
                shown.extend(data)
                if typed and shown.endswith(b": ") and b"MFA code" in shown:
                    os.write(controller, typed.encode())
        except OSError:  # EIO: nobody has the terminal any more
            pass

    reading = threading.Thread(target=answer)
    reading.start()
    out, err = process.communicate(stdin)
    os.close(terminal)
    reading.join()
    os.close(controller)
    return subprocess.CompletedProcess(command, process.returncode, out, err), shown.decode()


def test_a_credential_process_gets_no_data(aws: Aws) -> None:
    with subprocess.Popen(
        aws.encrypt("-", profile="eater"),
        cwd=aws.shell.folder,
        env=aws.shell.environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        _, err = process.communicate(DATA)
    assert process.returncode == 0, err
    assert aws.shell.read("seen") == b""
    assert aws.sealed() == DATA


def test_no_other_program_gets_data(aws: Aws) -> None:
    """click runs bash to see which one it is."""
    bash = aws.program("bin/bash", f"#!/bin/sh\nhead -c 6 > {aws.shell.folder}/seen\necho 5.2\n")
    aws.shell.environment["PATH"] = f"{Path(bash).parent}:{aws.shell.environment['PATH']}"
    done = aws.shell.sealwax("completion", "bash", stdin=DATA).succeeded()
    assert b"_SEALWAX_COMPLETE" in done.out
    assert aws.shell.read("seen") == b""


KEY_FILE = os.urandom(64)
# What else is read from it, and what may remain there: nothing, which would be sealed, or opened, as if it were all.
TWICE = {
    "a context and the data": ("--context-file /dev/stdin -", b'{"purpose": "backup"}'),
    "a context and the data by another name": ("--context-file /dev/fd/0 /proc/self/fd/0", b'{"purpose": "backup"}'),
    "the lab's key file and the data": ("-c purpose=backup -", KEY_FILE),
    "the data twice": ("-c purpose=backup /dev/stdin /dev/fd/0", DATA),
    "the data once more by a copy": ("-c purpose=backup /dev/fd/5 /dev/stdin 5<&0", DATA),
}


@pytest.mark.parametrize("regular", [False, True])
@pytest.mark.parametrize("how", TWICE)
def test_it_is_one_thing(bare_shell: Shell, how: str, regular: bool) -> None:
    options, given = TWICE[how]
    protected = "key file" in how
    variable = f"SEALWAX_LAB_KEY_FILE={'key' if protected else ''}"
    bare_shell.write("key", KEY_FILE)
    bare_shell.write("given", given)
    bare_shell.bash(f"{variable} sealwax lab create-key --lab lab --alias demo").succeeded()
    source = "< given" if regular else ""
    by = "SEALWAX_LAB_KEY_FILE=/dev/stdin" if protected else variable
    seal = f"mkdir out; {'' if regular else 'cat given |'} {by} sealwax encrypt --lab lab -k alias/demo -o out"
    output = "" if how.startswith("the data") else "/sealed"
    bare_shell.bash(f"{seal}{output} {source} {options}").failed(2, "was given twice, but can be read only once")
    assert not list((bare_shell.folder / "out").iterdir())


def test_there_were_that_many_ways() -> None:
    assert len(TWICE) == 5


def test_the_same_pipe_is_given_once(shell: Shell) -> None:
    os.mkfifo(shell.folder / "p")
    shell.sealwax("verify", "-k", "alias/demo", *PURPOSE, "p", "p").failed(2, "p was given twice")


def test_what_is_typed_is_a_file_too(shell: Shell) -> None:
    """A terminal was handed in, as a pipe may be."""
    controller, terminal = pty.openpty()
    os.write(controller, b'{"Version": "2012-10-17", "Statement": []}\n\x04')
    done = subprocess.run(
        [SEALWAX, "lab", "principal", "add", "ann", "--policy", "-"],
        cwd=shell.folder,
        env=shell.environment,
        stdin=terminal,
        capture_output=True,
        check=False,
    )
    os.close(terminal)
    os.close(controller)
    assert b"refused" not in done.stderr
    assert b"has no Statement" in done.stderr
