"""The completion scripts: bash's is run, the others are held against what their shells need to find."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sealwax.cli import VERBS, offers, run
from sealwax.lab import Lab, Server

# Loads the script, asks it as bash would, and prints what it offers.
_ASK = """
eval "$(sealwax completion bash 2>/dev/null)"
complete -p sealwax
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_sealwax_completion sealwax 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def ask_bash(*words: str) -> tuple[str, list[str]]:
    done = subprocess.run(
        ["bash", "--norc", "-c", _ASK, "bash", *words],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    registered, *offers = done.stdout.splitlines()
    return registered, [offer for offer in offers if offer]


def test_bash_completes_verbs() -> None:
    registered, offers = ask_bash("sealwax", "")
    assert registered == "complete -o nosort -F _sealwax_completion sealwax"
    assert offers == list(VERBS)
    assert ask_bash("sealwax", "de")[1] == ["decrypt"]
    assert ask_bash("sealwax", "nonsense")[1] == []


def test_bash_completes_options_and_their_values() -> None:
    assert {"--context", "--context-file"} <= set(ask_bash("sealwax", "encrypt", "--cont")[1])
    assert ask_bash("sealwax", "rewrap", "--accept")[1] == ["--accept-stored-context"]
    assert ask_bash("sealwax", "keys", "list", "--js")[1] == ["--json"]
    assert ask_bash("sealwax", "completion", "")[1] == ["bash", "zsh", "fish"]


@pytest.mark.parametrize(
    ("shell", "parts"),
    [
        ("bash", ["_SEALWAX_COMPLETE=bash_complete", "complete -o nosort -F _sealwax_completion sealwax"]),
        ("zsh", ["#compdef sealwax", "_SEALWAX_COMPLETE=zsh_complete", "compdef _sealwax_completion sealwax"]),
        ("fish", ["_SEALWAX_COMPLETE=fish_complete", "complete --no-files --command sealwax"]),
    ],
)
def test_scripts(shell: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert all(part in out for part in parts)
    # The script alone goes to standard output: it is meant to be written to a file.
    assert err.startswith(f"sealwax: to install it: sealwax completion {shell} > ")


def test_help_says_how_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"sealwax completion {shell} > " in out for shell in ("bash", "zsh", "fish"))


def test_another_shell_is_a_usage_error() -> None:
    assert run(["completion", "tcsh"]) == 2


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_program_answers_the_other_shells(shell: str) -> None:
    words = {"COMP_WORDS": "sealwax rew", "COMP_CWORD": "1" if shell == "zsh" else "rew"}
    done = subprocess.run(
        [Path(sys.executable).parent / "sealwax"],
        env=os.environ | words | {"_SEALWAX_COMPLETE": f"{shell}_complete"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "rewrap" in done.stdout


# --- values: aliases, profiles, Regions and files

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "x" * 40}

ROLE = "[default]\nregion = us-east-1\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = s\n"


class Asked:
    """Asks the program as a shell does, in this process."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.home, self._patch, self._capfd = home, patch, capfd
        self.cache = home / ".cache/sealwax"
        patch.setenv("HOME", str(home))
        patch.delenv("XDG_CACHE_HOME", raising=False)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", str(home / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))

    def use(self, **environment: str) -> None:
        for name, value in environment.items():
            self._patch.setenv(name, value)

    def until(self, wanted: list[str], typed: str) -> None:
        """Ask until this is offered: on a busy machine, the first answers may take too long to be waited for."""
        offered: list[str] = []
        for _ in range(20):
            if (offered := self(typed)) == wanted:
                return
        raise AssertionError(f"{typed}: {offered}")

    def __call__(self, typed: str) -> list[str]:
        """Return what is offered after a command line whose last word is to be completed."""
        words = typed.split(" ")
        self.use(_SEALWAX_COMPLETE="bash_complete", COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1))
        with pytest.raises(SystemExit) as ended:
            run([])
        self._patch.delenv("_SEALWAX_COMPLETE")
        out, err = self._capfd.readouterr()
        assert ended.value.code == 0
        assert err == "", "a shell would print it into the line that is typed"
        return out.split()


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Asked:
    home = tmp_path / "home"
    home.mkdir()
    return Asked(home, monkeypatch, capfd)


def plain(*values: str) -> list[str]:
    return [f"plain,{value}" for value in values]


@pytest.fixture
def own(tmp_path: Path, ask: Asked) -> Iterator[Lab]:
    """A lab of this test's own, in use."""
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="payments")
        lab.create_key(alias="backups")
        ask.use(SEALWAX_LAB=str(lab.path))
        yield lab


def test_aliases_follow_the_options_that_take_keys(own: Lab, ask: Asked) -> None:
    both = plain("alias/backups", "alias/payments")
    for command in (
        "encrypt -k ",
        "encrypt -c a=b --key ",
        "rewrap -k alias/x --to ",
        "inspect --to al",
        "fleet plan --from ",
        "fleet plan --from alias/x --to alias/",
        "prove -k ",
        "audit -k ",
        "keys retire ",
        "keys rotate ",
    ):
        ask.until(both, f"sealwax {command}")
    ask.until(plain("alias/payments"), "sealwax encrypt -k alias/p")
    assert ask("sealwax encrypt -k nothing") == []
    assert own.path.is_dir()


def test_aliases_are_those_of_the_region_and_lab_that_were_typed(own: Lab, ask: Asked, tmp_path: Path) -> None:
    own.create_key(alias="euro", region="eu-west-1")
    ask.until(plain("alias/euro"), "sealwax encrypt --region eu-west-1 -k ")
    assert ask("sealwax encrypt -k alias/e") == [], "without a Region, those of the lab's default one"
    with Lab(tmp_path / "other") as other:
        other.create_key(alias="else")
    ask.until(plain("alias/else"), f"sealwax encrypt --lab {tmp_path / 'other'} -k ")
    assert ask(f"sealwax encrypt --lab {tmp_path / 'none'} -k ") == []
    assert not (tmp_path / "none").exists()
    assert ask("sealwax encrypt --profile prod -k ") == [], "a profile is not about the lab of the environment"


@pytest.mark.usefixtures("own")
def test_aliases_are_kept_where_nobody_else_reads_them(ask: Asked) -> None:
    ask.until(plain("alias/backups", "alias/payments"), "sealwax encrypt -k ")
    assert ask.cache.stat().st_mode & 0o777 == 0o700
    (kept,) = ask.cache.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    entry = json.loads(kept.read_text())
    kept.write_text(json.dumps(entry | {"names": ["alias/kept"]}))
    ask.until(plain("alias/kept"), "sealwax encrypt -k ")
    # Not those that others can have written, that are old, from the future, or not what was kept:
    kept.chmod(0o666)
    ask.until(plain("alias/payments"), "sealwax encrypt -k alias/p")
    entry["at"] = json.loads(kept.read_text())["at"]
    for at in (entry["at"] - offers.ALIASES_KEPT_SECONDS, entry["at"] + 3600):
        kept.write_text(json.dumps(entry | {"names": ["alias/kept"], "at": at}))
        ask.until(plain("alias/payments"), "sealwax encrypt -k alias/p")
    for damaged in ("", "[]", "{", '{"of": 1}', json.dumps(entry | {"names": 5}), json.dumps(entry | {"at": "x"})):
        kept.write_text(damaged)
        ask.until(plain("alias/payments"), "sealwax encrypt -k alias/p")


def test_a_new_alias_of_a_lab_shows_at_once(own: Lab, ask: Asked) -> None:
    ask("sealwax encrypt -k ")
    own.create_key(alias="new")
    ask.until(plain("alias/new"), "sealwax encrypt -k alias/n")


def test_without_a_place_for_the_cache_it_works_too(own: Lab, ask: Asked) -> None:
    for folder in (str(own.path / "state.db"), "relative"):
        ask.use(XDG_CACHE_HOME=folder)
        ask.until(plain("alias/payments"), "sealwax encrypt -k alias/p")
    assert not Path("relative").exists(), "the XDG specification says so"
    assert (ask.home / ".cache/sealwax").is_dir()


def test_a_protected_lab_offers_nothing(ask: Asked, tmp_path: Path) -> None:
    with Lab(tmp_path / "safe", passphrase="correct") as lab:
        lab.create_key(alias="secret")
    assert ask(f"sealwax encrypt --lab {tmp_path / 'safe'} -k ") == []
    ask.use(SEALWAX_LAB_PASSPHRASE="correct")
    ask.until(plain("alias/secret"), f"sealwax encrypt --lab {tmp_path / 'safe'} -k ")


def test_aliases_of_a_served_kms(own: Lab, ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from AWS: over HTTP, with the credentials of the environment."""
    monkeypatch.delenv("SEALWAX_LAB")
    kms = own.session(region="us-east-1").client("kms")
    aliases = [f"alias/many-{number:03}" for number in range(120)]
    keys = [kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(3)]
    for number, alias in enumerate(aliases):
        kms.create_alias(AliasName=alias, TargetKeyId=keys[number % len(keys)])
    ask.use(**CREDENTIALS, AWS_DEFAULT_REGION="us-east-1")
    server = Server(own, port=0)
    serving = threading.Thread(target=server.serve)
    serving.start()
    command = f"sealwax encrypt --endpoint-url {server.url} -k "
    try:
        ask.until(plain("alias/backups", *aliases, "alias/payments"), command)
    finally:
        server.close()
        serving.join()
    ask.until(plain("alias/payments"), f"{command}alias/p")  # it is kept: the server is gone
    assert ask(f"sealwax encrypt --region eu-west-1 --endpoint-url {server.url} -k ") == [], "but not for other places"
    ask.use(AWS_ACCESS_KEY_ID="AKIAI44QH8DHBEXAMPLE")
    assert ask(command) == [], "nor for other credentials"


class Hostile(BaseHTTPRequestHandler):
    """A KMS with aliases that would mean something to a shell."""

    def do_POST(self) -> None:
        names = ("alias/good", "alias/aws/s3", "alias/a\nplain,alias/b", "alias/$(id)", "alias/\x1b[31m", "other")
        body = json.dumps({"Aliases": [{"AliasName": name} for name in names], "Truncated": False}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_what_a_shell_would_interpret_is_not_offered(ask: Asked) -> None:
    ask.use(**CREDENTIALS)
    with HTTPServer(("127.0.0.1", 0), Hostile) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            ask.until(plain("alias/good"), f"sealwax encrypt --region us-east-1 --endpoint-url {url} -k ")
        finally:
            server.shutdown()
            serving.join()


def test_an_endpoint_that_never_answers_is_given_up(ask: Asked) -> None:
    assert offers.SECONDS <= 1, "in all"
    ask.use(**CREDENTIALS)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert ask(f"sealwax encrypt --region us-east-1 --endpoint-url http://127.0.0.1:{port} -k ") == []
    assert not ask.cache.exists() or list(ask.cache.iterdir()) == [], "failures are not kept"


def test_what_takes_too_long_is_left_behind() -> None:
    forever = threading.Event()
    try:
        assert offers.within(0, forever.wait) is None
    finally:
        forever.set()
    assert offers.within(60, lambda: 5) == 5
    assert offers.within(60, lambda: 1 // 0) is None


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[default]\nregion = us-east-1\n",
        "[profile",
        # These would ask somebody: for a code, or by whatever the program does.
        f"{ROLE}mfa_serial = m\n[profile s]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n",
        "[default]\nregion = us-east-1\ncredential_process = touch ran\n",
        f"{ROLE}[profile s]\ncredential_process = touch ran\n",
    ],
)
def test_without_usable_credentials_nothing_is_said_or_asked(
    config: str, ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ask.home / "config").write_text(config)
    monkeypatch.chdir(ask.home)
    assert ask("sealwax encrypt -k ") == []
    assert not (ask.home / "ran").exists()


def test_profiles_and_regions(ask: Asked) -> None:
    (ask.home / "config").write_text('[default]\n[profile prod]\n[profile test]\n[profile a$(id)]\n[profile "a b"]\n')
    (ask.home / "credentials").write_text("[ci]\n")
    ask.until(plain("ci", "default", "prod", "test"), "sealwax encrypt --profile ")
    ask.until(plain("prod"), "sealwax prove --denied-profile pr")
    ask.until(plain("eu-west-1", "eu-west-2", "eu-west-3"), "sealwax encrypt --region eu-west")
    assert "plain,us-east-1" in ask("sealwax audit --region us-")
    assert [path.name for path in ask.cache.iterdir()] == ["regions.json"]


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        ("encrypt ", "file"),
        ("encrypt -k alias/x -o ", "file"),
        ("encrypt --context-file ", "file"),
        ("decrypt --detached ", "file"),
        ("encrypt --lab ", "dir"),
        ("fleet plan ", "file"),
        ("fleet plan -o ", "file"),
        ("fleet run ", "file"),
        ("audit --facts ", "file"),
        ("policy explain --key-policy ", "file"),
        ("lab serve --tls-cert ", "file"),
        ("lab keys --lab ", "dir"),
    ],
)
def test_files_are_left_to_the_shell(typed: str, kind: str, ask: Asked) -> None:
    assert ask(f"sealwax {typed}") == [f"{kind},"]


def test_topics_of_help(ask: Asked) -> None:
    ask.until(plain("encrypt"), "sealwax help enc")
    ask.until(plain("AccessDeniedError"), "sealwax help access")
    ask.until(plain("1", "129", "130", "143"), "sealwax help 1")
