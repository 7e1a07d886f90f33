"""Where the settings file is looked for, and which ones are refused: hostile, broken and mistyped ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sealwax.cli import settingsfile
from sealwax.errors import SettingsError
from tests.cli.conftest import Run
from tests.cli.shell import unprivileged
from tests.planting import STRANGER

REFUSED = "the settings file '{path}' is refused: "
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in the home folder."""
    folder = tmp_path / "home" / "project" / "sub"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SEALWAX_SETTINGS", raising=False)
    monkeypatch.delenv("SEALWAX_CONTEXT", raising=False)
    monkeypatch.chdir(folder)
    return folder


def found() -> str | None:
    settings = settingsfile.read()
    return None if settings is None else settings.path


def refusal() -> str:
    with pytest.raises(SettingsError) as caught:
        settingsfile.read()
    text = str(caught.value)
    assert "--no-settings" in text
    assert len(text) < 500
    return text


# --- where


def test_the_nearest_file_counts_up_to_the_home_folder(place: Path) -> None:
    for folder in (place.parents[2], place.parents[1], place.parents[0], place):
        above = found()
        (folder / "sealwax.toml").write_text("")
        assert found() == (above if folder == place.parents[2] else str(folder / "sealwax.toml"))


def test_outside_of_the_home_folder_the_search_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(place.parent)
    (place.parents[2] / "sealwax.toml").write_text("")
    assert found() == str(place.parents[2] / "sealwax.toml")


def test_a_pyproject_counts_if_it_has_our_table(place: Path) -> None:
    (place.parent / "sealwax.toml").write_text("")
    own = place / "pyproject.toml"
    for other in (b"", b"[tool.other]\n", b'[project]\ndependencies = ["sealwax"]\n', b"[[[", b"\xff", bytes(1 << 20)):
        own.write_bytes(other)
        own.chmod(0o666)
        assert found() == str(place.parent / "sealwax.toml"), "it is of no concern, whoever may write to it"
    own.write_text('[tool.sealwax]\nregion = "eu-west-1"\n')
    assert "everybody may write to it" in refusal()
    own.chmod(0o600)
    settings = settingsfile.read()
    assert settings is not None
    assert (settings.path, settings.region) == (str(own), "eu-west-1")
    own.write_text("tool.sealwax = 1")
    assert "tool.sealwax is not a table" in refusal()
    own.write_text("[tool.sealwax]\n=")
    assert "is not valid TOML" in refusal()
    own.write_text("[tool.sealwax]\n" + "#" * (1 << 20))
    assert "it has more than 262,144 bytes" in refusal()
    (place / "sealwax.toml").write_text("")
    assert found() == str(place / "sealwax.toml"), "it counts over pyproject.toml"


def test_a_pyproject_that_is_no_file_is_passed_over(place: Path) -> None:
    (place / "pyproject.toml").mkdir()
    assert found() is None
    (place / "pyproject.toml").rmdir()
    os.mkfifo(place / "pyproject.toml")
    assert found() is None
    (place / "pyproject.toml").unlink()
    (place / "pyproject.toml").symlink_to("nowhere")
    assert found() is None


def test_the_variable_names_the_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "sealwax.toml").write_text("nonsense")
    (place / "other.toml").write_text("workers = 2")
    for off in ("", "/dev/null"):
        monkeypatch.setenv("SEALWAX_SETTINGS", off)
        assert found() is None
    monkeypatch.setenv("SEALWAX_SETTINGS", "other.toml")
    assert found() == str(place / "other.toml")
    monkeypatch.setenv("SEALWAX_SETTINGS", "none.toml")
    assert "that SEALWAX_SETTINGS names cannot be read: " in refusal()
    monkeypatch.setenv("SEALWAX_SETTINGS", "pyproject.toml")
    (place / "pyproject.toml").write_text("[tool.other]\n")
    assert "it has no table [tool.sealwax], and SEALWAX_SETTINGS names it" in refusal()
    (place / "pyproject.toml").write_text("[tool.sealwax]\n")
    assert found() == str(place / "pyproject.toml")


def test_a_file_that_cannot_be_read_is_refused_and_a_closed_folder_is_passed_over(place: Path) -> None:
    for name in ("sealwax.toml", "pyproject.toml"):
        file = place.parent / name
        file.write_text("[tool.sealwax]")
        file.chmod(0)
        with unprivileged():
            assert "Permission denied" in refusal()
            place.parent.chmod(0o600)
            assert found() is None
            place.parent.chmod(0o755)
        file.unlink()


def test_a_deleted_folder_has_no_settings(place: Path) -> None:
    place.rmdir()
    assert found() is None


# --- whose


def test_a_file_that_others_can_write_is_refused(place: Path) -> None:
    file = place / "sealwax.toml"
    file.write_text("")
    # The group of another user may be one of their own.
    for mode, who in ((0o602, "everybody"), (0o646, "everybody"), *[(0o620, "its group")] * IS_ROOT):
        file.chmod(mode)
        text = refusal()
        assert text.startswith(REFUSED.format(path=file))
        assert f"{who} " in text
        assert "may write to it" in text
    file.chmod(0o600)
    assert found() == str(file)
    place.chmod(0o777)
    assert "its folder" in refusal()


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(place: Path) -> None:
    file = place.parent / "sealwax.toml"
    file.write_text("")
    os.chown(file, STRANGER, STRANGER)
    assert f"it belongs to user id {STRANGER}" in refusal().replace("nobody (user id 65534)", "user id 65534")
    os.chown(file, 0, 0)
    os.chown(place.parent, STRANGER, STRANGER)
    assert "its folder" in refusal()
    os.chown(place.parent, 0, 0)
    link = place / "sealwax.toml"
    link.symlink_to(file)
    assert found() == str(link)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    assert "a symbolic link of" in refusal()


def test_nothing_in_a_folder_like_tmp_counts_for_those_below(place: Path) -> None:
    (place.parents[0] / "sealwax.toml").write_text("nonsense")
    (place.parents[1] / "sealwax.toml").write_text("nonsense")
    place.parent.chmod(0o1777)
    assert found() is None
    place.parent.chmod(0o755)
    assert "is not valid TOML" in refusal()


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (lambda path: path.mkdir(), "it is not a regular file"),
        (os.mkfifo, "it is not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "it is not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "it is a link that leads nowhere"),
        (lambda path: path.symlink_to(path.name), "cannot be read"),
    ],
    ids=["folder", "pipe", "device", "dangling", "loop"],
)
def test_what_is_no_file_is_refused(plant: Callable[[Path], None], why: str, place: Path) -> None:
    plant(place / "sealwax.toml")
    assert why in refusal()


# --- what


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff\xfe", "it is not UTF-8 (at byte 0)"),
        (b"key alias", "it is not valid TOML: "),
        (b"\0" * 100, "it is not valid TOML: "),
        (b"#" * (257 << 10), "it has more than 262,144 bytes"),
        (b"a=" + b"[" * 100_000, "its values are nested too deeply"),
        (b"a=" + b"{a=" * 50_000, "its values are nested too deeply"),
        (b"a." * 100_000 + b"a=1", "line 1 has more than 100 dots"),
        (b"\n[" + b"a." * 100_000 + b"a]", "line 2 has more than 100 dots"),
        (b"workers=" + b"9" * 200_000, "it is not valid TOML: it has a number of too many digits; correct it"),
        (b"a" * 200_000 + b"=1", "aa' is unknown (known: key, context,"),
        (b'"\\u001b[31m"=1', r"'\x1b[31m' is unknown"),
    ],
)
def test_a_bomb_is_refused(content: bytes, why: str, place: Path) -> None:
    (place / "sealwax.toml").write_bytes(content)
    assert why in refusal()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('lab = "x"', "'lab' may not be set here, because a lab stands in for AWS KMS (use --lab or SEALWAX_LAB)"),
        ('lab_key_file = "x"', "a lab stands in"),
        ('lab-passphrase = "HIDDEN"', "a lab stands in"),
        ('endpoint-url = "http://x"', "an endpoint receives data keys (use --endpoint-url)"),
        ('endpoint_url = "http://x"', "an endpoint receives"),
        ('aws_endpoint_url_kms = "http://x"', "an endpoint receives"),
        ('ENDPOINT = "http://x"', "an endpoint receives"),
        ('aws_access_key_id = "AKIDHIDDEN"', "credentials and the ways to get them do not belong here"),
        ('secret_access_key = "HIDDEN"', "credentials and"),
        ('aws_session_token = "HIDDEN"', "credentials and"),
        ('credential_process = "HIDDEN"', "credentials and"),
        ('role_arn = "x"', "credentials and"),
        ('[credentials]\nx = "HIDDEN"', "credentials and"),
        ('keys = "alias/x"', "'keys' is unknown (did you mean 'key'?)"),
        ('Local-Context = ["x"]', "'Local-Context' is unknown (did you mean 'local_context'?)"),
        ('[[rules]]\npath = "x"', "'rules' is unknown (did you mean 'rule'?)"),
        ("accept_stored_context = true", "'accept_stored_context' is unknown"),
        ("key = 1", "'key' must be a quoted string, or a list of them"),
        ("key = []", "'key' must be a quoted string, or a list of them"),
        ('key = ["alias/x", ""]', "'key' must be"),
        ('key = "demo"', "'demo' is not a KMS key ID, key ARN, alias or alias ARN (did you mean 'alias/demo'?)"),
        ("key = [" + '"alias/x",' * 17 + "]", "'key' names 17 keys, and an envelope holds up to 16"),
        ('context = "a=b"', "'context' must be a table, such as context = { purpose = "),
        ("context = { a = 1 }", "'context.a' must have a name, and a quoted string as its value"),
        ('context = { "" = "x" }', "must have a name"),
        ('context = { a = "{path}" }', "'context.a': the placeholder '{path}' is unknown"),
        ('local_context = "x"', "'local_context' must be a list of quoted strings"),
        ("region = 1", "'region' must be a quoted string, and not empty"),
        ('profile = ""', "'profile' must be a quoted string, and not empty"),
        ('suffix = "a/b"', "'suffix' must not contain '/'"),
        ('suffix = ""', "'suffix' must be a quoted string, and not empty"),
        ("workers = 0", "'workers' must be a number from 1 to 256"),
        ("workers = true", "'workers' must be a number from 1 to 256"),
        ('workers = "8"', "'workers' must be a number from 1 to 256"),
        ('rule = "x"', "'rule' must be written as [[rule]], one for each"),
        ('[rule]\npath = "x"', "'rule' must be written as [[rule]], one for each"),
        ("rule = [1]", "'rule' must be written as [[rule]], one for each"),
        ('[[rule]]\nkey = "alias/x"', "rule 1: it has no 'path'"),
        ('[[rule]]\npath = "x"\n[[rule]]\npath = ""', "rule 2: 'path' must be a quoted string, or a list of them"),
        ('[[rule]]\npath = "x"\nlab = "x"', "rule 1: 'lab' may not be set here, because a lab stands in"),
        (
            '[[rule]]\npath = "x"\nprofile = "x"',
            "rule 1: 'profile' may not be set here, because it applies to whole runs",
        ),
        ('[[rule]]\npath = "x"\nkye = "x"', "rule 1: 'kye' is unknown (did you mean 'key'?)"),
        ('[[rule]]\npath = "/x"', "rule 1: the path '/x' must be relative to the folder of this file"),
        ('[[rule]]\npath = "!x"', "rule 1: the path '!x' must not begin with '!'"),
        ('[[rule]]\npath = "a/../x"', "rule 1: the path 'a/../x' must not contain an empty name, '.' or '..'"),
        ('[[rule]]\npath = "s3://"', "rule 1: the path 's3://' must not contain an empty name"),
    ],
)
def test_a_wrong_member_is_refused(line: str, why: str, place: Path) -> None:
    file = place / "sealwax.toml"
    file.write_text(line)
    text = refusal()
    assert text.startswith(REFUSED.format(path=file))
    assert why in text
    assert "HIDDEN" not in text


def test_each_verb_that_reads_it_refuses_and_has_the_option(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SEALWAX_SETTINGS", raising=False)
    (here / "sealwax.toml").write_text('lab = "x"')
    principal = "arn:aws:iam::111122223333:user/u"
    plan = ("fleet", "plan", "a", "--from", "k", "--to", "k", "-o", "p")
    grant = ("policy", "grant", "-k", "k", "--grantee", principal, "--operation", "Decrypt")
    verbs: tuple[tuple[str, ...], ...] = (
        *(("encrypt", "a"), ("decrypt", "a"), ("verify", "a"), ("inspect", "a"), ("rewrap", "--to", "k", "a")),
        *(("reencrypt", "--to", "k", "a"), ("prove",), ("audit",), ("settings", "show")),
        *(("keys", "list"), ("keys", "rotate", "k"), ("keys", "rotations", "k")),
        *(("keys", "retire", "k", "--scan", "a"), plan, ("fleet", "run", "p"), ("fleet", "verify", "p")),
        *(grant, ("policy", "explain", principal, "kms:Decrypt", "k"), ("policy", "iam", "audit"), ("edit", "a")),
    )
    assert len(verbs) == 20
    for verb in verbs:
        assert run(*verb, "-q") == 2, verb
        err = capfd.readouterr().err
        assert err.startswith(f"sealwax: {REFUSED.format(path=here / 'sealwax.toml')}"), (verb, err)
        run(*verb, "-q", "--no-settings")
        err = capfd.readouterr().err
        assert "sealwax.toml" not in err, (verb, err)
        assert "No such option" not in err, (verb, err)
    assert run("encrypt", "--help") == 0, "help is there whatever the file says"
    assert run("completion", "bash") == 0, "it reads no settings"


def test_a_fixed_file_counts(run: Run, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "sealwax.toml").write_bytes('\ufeffworkers = 3\r\ncontext = { "ü" = "é" }\r\n'.encode())
    assert run("settings", "show", "--json") == 0
    facts = json.loads(capfd.readouterr().out)
    assert (facts["workers"]["value"], facts["context"]["ü"]["value"]) == (3, "é")
