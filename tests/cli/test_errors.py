"""What goes wrong outside is told in a sentence: never a traceback, never a status of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.conftest import PURPOSE, K, Keys
from tests.cli.shell import ROOT, STATUSES, Shell, without_privileges

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "anything"}

SSO = (
    b"[profile sso]\nsso_session = s\nsso_account_id = 111122223333\nsso_role_name = r\nregion = us-east-1\n"
    b"[sso-session s]\nsso_start_url = https://example.invalid/start\nsso_region = us-east-1\n"
)


def test_what_aws_is_not_set_up_for(bare_shell: Shell) -> None:
    shell = bare_shell
    shell.write("a", b"data")
    shell.write("config", SSO)
    shell.write("broken", b"[profile\nnonsense")

    def refused(fragments: tuple[str, ...], *arguments: str, **environment: str) -> None:
        usual = dict(shell.environment)
        shell.environment |= environment
        with shell.unchanged():
            shell.sealwax("encrypt", *K, *PURPOSE, *arguments, "a").failed(7, *fragments)
        shell.environment = usual

    refused(("no AWS Region is set", "AWS_DEFAULT_REGION"))
    refused(("there are no AWS credentials", "use the lab"), "--region", "us-east-1")
    refused(("no AWS Region is set",), **CREDENTIALS)
    refused(("aws sso login",), "--profile", "sso", AWS_CONFIG_FILE="config")
    expired = {"startUrl": "https://example.invalid/start", "region": "us-east-1", "accessToken": "t"}
    expired["expiresAt"] = "2020-01-01T00:00:00Z"
    place = Path(shell.environment["HOME"], ".aws/sso/cache", f"{hashlib.sha1(b's').hexdigest()}.json")
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(expired))
    refused(("expired", "aws sso login"), "--profile", "sso", AWS_CONFIG_FILE="config")
    refused(("there is no such AWS profile", "missing", "list-profiles"), "--profile", "missing")
    refused(("there is no such AWS profile", "missing", "list-profiles"), AWS_PROFILE="missing")
    refused(("an AWS settings file cannot be read", "broken"), AWS_CONFIG_FILE="broken")
    refused(("this is not a Region", "not a region"), "--region", "not a region", **CREDENTIALS)
    refused(("AWS_REGION is set, but boto3 does not read it",), AWS_REGION="us-east-1", **CREDENTIALS)
    region = ("--region", "us-east-1")
    for url in ("nonsense", "", "localhost:4599", "ftp://kms", "http://", "http://[::1", "http://127.0.0.1:99999"):
        refused((f"'{url}' is not an endpoint URL",), *region, "--endpoint-url", url, **CREDENTIALS)
        if url in ("nonsense", "http://127.0.0.1:99999"):
            refused(("AWS_ENDPOINT_URL", "URL"), *region, AWS_ENDPOINT_URL=url, **CREDENTIALS)
            refused(("AWS_ENDPOINT_URL", "URL"), *region, AWS_ENDPOINT_URL_KMS=url, **CREDENTIALS)
            shell.write("endpoint", f"[profile e]\nregion = us-east-1\nendpoint_url = {url}\n".encode())
            refused(("endpoint_url", "URL"), "--profile", "e", AWS_CONFIG_FILE="endpoint", **CREDENTIALS)
    for url in ("http://127.0.0.1:1", "http://no-such-host.invalid"):
        refused(("KMS could not be reached", "Check the network"), *region, "--endpoint-url", url, **CREDENTIALS)
    refused(("KMS could not be reached", "Check the network"), *region, HTTPS_PROXY="http://127.0.0.1:1", **CREDENTIALS)


def test_what_was_typed_wins_over_the_lab_of_the_environment(shell: Shell) -> None:
    shell.write("a", b"data")
    verb = ("encrypt", *K, *PURPOSE)
    shell.sealwax(*verb, "--lab", "lab", "--profile", "p", "a").failed(2, "use --lab or --profile, not both")
    url = ("--endpoint-url", "http://127.0.0.1:1")
    shell.sealwax(*verb, "--profile", "missing", "a").failed(7, "ignoring SEALWAX_LAB, because --profile was given")
    shell.sealwax(*verb, *url, "a").failed(7, "ignoring SEALWAX_LAB, because --endpoint-url was given")
    assert "SEALWAX_LAB" not in shell.sealwax(*verb, "-q", *url, "a").failed(7).err


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_a_lab_needs_no_profile(shell: Shell, variable: str) -> None:
    """It goes on without one that is not there, and says so; and it is only ever used where it is named."""
    shell.write("a", b"data")
    shell.environment[variable] = "miss\x1bing"
    told = "AWS profile 'miss\\x1bing' not found; the lab works without it"
    assert told in shell.sealwax("encrypt", *K, *PURPOSE, "a").succeeded().err
    shell.sealwax("decrypt", *K, *PURPOSE, "-o", "b", "a.swx").succeeded()
    assert "AWS profile" not in shell.sealwax("verify", "-q", *K, *PURPOSE, "a.swx").succeeded().err
    shell.sealwax("keys", "list").succeeded()
    lab = shell.environment.pop("SEALWAX_LAB")
    shell.sealwax("verify", *K, *PURPOSE, "a.swx").failed(7, "there is no such AWS profile")
    shell.sealwax("verify", "--lab", lab, *K, *PURPOSE, "a.swx").succeeded()
    shell.sealwax("verify", "--lab", lab, "--profile", "missing", *K, *PURPOSE, "a.swx").failed(2, "not both")


def test_a_lab_asks_no_single_sign_on(shell: Shell) -> None:
    shell.write("a", b"data")
    shell.write("config", SSO)
    shell.environment |= {"AWS_PROFILE": "sso", "AWS_CONFIG_FILE": "config"}
    done = shell.sealwax("encrypt", *K, *PURPOSE, "a").succeeded()
    assert "profile" not in done.err
    del shell.environment["SEALWAX_LAB"]
    shell.sealwax("encrypt", *K, *PURPOSE, "--force", "a").failed(7, "aws sso login")


def test_a_lab_in_an_odd_environment(shell: Shell) -> None:
    shell.write("a", b"data")
    shell.write("broken", b"[profile\nnonsense")
    for environment in ({"AWS_CONFIG_FILE": "broken"}, {"AWS_REGION": "us east"}):
        usual = dict(shell.environment)
        shell.environment |= environment
        done = shell.sealwax("encrypt", *K, *PURPOSE, "--force", "a")
        assert done.status in {0, 1, 7}, done
        shell.environment = usual
    shell.write("lab/letter", b"Dear")
    for name, words in (("lab", "holds other files"), (".", "holds other files"), ("sealed/\x1b", "no lab")):
        if name.startswith("sealed"):
            (shell.folder / "sealed").mkdir(mode=0o500)
        with shell.unchanged():
            done = shell.sealwax("encrypt", "--lab", name, *K, *PURPOSE, "--force", "a", preexec=without_privileges)
            done.failed(1, words)
            assert "\x1b" not in done.err
    with shell.unchanged():
        shell.sealwax("encrypt", "--lab", "", *K, *PURPOSE, "--force", "a").failed(2, "--lab is empty")
        shell.environment["SEALWAX_LAB"] = ""
        shell.sealwax("encrypt", *K, *PURPOSE, "--force", "a").failed(7, "no AWS Region is set")
    shell.write("file", b"no lab")
    shell.sealwax("encrypt", "--lab", "file", *K, *PURPOSE, "a").failed(1, "file")


@pytest.mark.parametrize("means", ["SEALWAX_LAB_PASSPHRASE", "SEALWAX_LAB_KEY_FILE"])
def test_a_protected_lab(shell: Shell, means: str) -> None:
    shell.write("a", b"data")
    shell.write("key", bytes(range(32)))
    shell.environment |= {"SEALWAX_LAB": "lab", means: "key"}
    shell.transcript("""
        $ sealwax lab create-key --alias demo
        $ sealwax encrypt -k alias/demo -c purpose=backup a
        $ sealwax decrypt -k alias/demo -c purpose=backup -o - a.swx | cmp - a
    """)
    del shell.environment[means]
    shell.sealwax("decrypt", *K, *PURPOSE, "-o", "b", "a.swx").failed(1, "this lab was made with a")


def test_keys_that_cannot_be_used(shell: Shell, keys: Keys) -> None:
    shell.write("a", b"data")
    key = keys.lab.create_key(alias="switched-off")["KeyId"]
    keys.lab.call("DisableKey", KeyId=key)
    for alias, spec, usage in (("mac", "HMAC_256", "GENERATE_VERIFY_MAC"), ("signing", "RSA_2048", "SIGN_VERIFY")):
        made = keys.lab.call("CreateKey", KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"]
        keys.lab.call("CreateAlias", AliasName=f"alias/{alias}", TargetKeyId=made)
    for name, fragments in {
        "alias/mac": ("the key cannot be used for this", "GENERATE_VERIFY_MAC", "needs a symmetric encryption key"),
        "alias/signing": ("the key cannot be used for this", "SIGN_VERIFY", "needs a symmetric encryption key"),
        "alias/aws/s3": ("AWS managed", "Create a customer managed key"),
        "alias/none": ("no such key or alias",),
        "alias/switched-off": ("the key is disabled", "enable-key"),
        "demo": ("did you mean 'alias/demo'?",),
        "": ("is not a KMS key ID",),
        "arn:aws:s3:::bucket": ("is not a KMS key ID",),
    }.items():
        with shell.unchanged():
            done = shell.sealwax("encrypt", "-k", name, *PURPOSE, "a").failed(7, *fragments)
            assert done.err.count("\n") == 2  # the lab's line, and one sentence


# One process that runs many commands: each line in is a command, each line out what became of it.
DRIVER = """
import base64, io, json, os, sys, tempfile
from sealwax import cli
lines, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
for line in lines:
    command = json.loads(line)
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(base64.b64decode(command["stdin"]))
        source.seek(0)
        for number, file in enumerate((source, out, err)):
            os.dup2(file.fileno(), number)
        sys.stdin = open(0, closefd=False)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        try:
            status = cli.run(command["arguments"])
        except BaseException as error:
            status = repr(error)
        sys.stdout.flush()
        sys.stderr.flush()
        err.seek(0)
        answers.write(json.dumps([status, err.read().decode(errors="replace")]) + "\\n")
        answers.flush()
"""

VALUES = st.sampled_from(
    ["a.bin", "a.swx", "-", "x", "", ".", "alias/demo", "alias/none", "a=b", "purpose=backup", "purpose={name}",
     "0:5", "5:", ":", "us-east-1", "purpose", "--", "-o-"]
)  # fmt: skip
TEXT = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=8)
OPTIONS = st.sampled_from(
    ["-k", "--key", "-c", "--context", "--context-file", "--no-context", "--accept-stored-context", "--local-context",
     "-o", "--output", "-r", "--suffix", "--armor", "--detached", "--force", "--json", "-q", "-v", "--range", "--to",
     "--verify", "--region", "--help", "-kalias/demo", "-cpurpose=backup", "--no-such"]
)  # fmt: skip
VERBS = st.sampled_from(["encrypt", "decrypt", "verify", "inspect", "rewrap", "", "--version"])


@pytest.fixture(scope="module")
def driver(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys
) -> Iterator[Callable[[list[str], bytes], tuple[int | str, str]]]:
    folder: Path = tmp_path_factory.mktemp("driven")
    (folder / "a.bin").write_bytes(b"data" * 10_000)
    sealed = keys.sealer(keys.demo).encrypt(b"data" * 10_000, context={"purpose": "backup"})
    (folder / "a.swx").write_bytes(sealed)
    environment = Shell(folder, folder, {"SEALWAX_LAB": str(keys.lab.path), "PYTHONPATH": str(ROOT / "src")})
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        cwd=folder, env=environment.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip

    def drive(arguments: list[str], stdin: bytes) -> tuple[int | str, str]:
        assert process.stdin is not None
        assert process.stdout is not None
        command = {"arguments": arguments, "stdin": base64.b64encode(stdin).decode()}
        process.stdin.write(json.dumps(command).encode() + b"\n")
        process.stdin.flush()
        status, err = json.loads(process.stdout.readline())
        return status, err

    yield drive
    with process:
        process.kill()


@pytest.mark.slow
@given(verb=VERBS, words=st.lists(OPTIONS | VALUES | TEXT, max_size=9), stdin=st.binary(max_size=200))
@settings(max_examples=150)
def test_no_arguments_bring_a_traceback(
    driver: Callable[[list[str], bytes], tuple[int | str, str]], verb: str, words: list[str], stdin: bytes
) -> None:
    status, err = driver([verb, *words], stdin)
    assert status in STATUSES, (status, err)
    assert "Traceback" not in err
    assert "bug in sealwax" not in err, err


@pytest.mark.slow
@given(at=st.integers(0, 400), mask=st.integers(1, 255), cut=st.integers(0, 700))
@settings(max_examples=100)
def test_no_bytes_bring_a_traceback(
    driver: Callable[[list[str], bytes], tuple[int | str, str]], keys: Keys, at: int, mask: int, cut: int
) -> None:
    data = bytearray(keys.sealer(keys.demo).encrypt(b"data" * 50, context={"purpose": "backup"}))
    data[at] ^= mask
    status, err = driver(["decrypt", *K, *PURPOSE, "-"], bytes(data[: cut + at + 1]))
    assert status in {4, 5, 6, 7}, (status, err)
    assert "bug in sealwax" not in err, err
