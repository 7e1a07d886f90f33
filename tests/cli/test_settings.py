"""The settings file: what it brings, to which files, and what counts over it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import sealwax
from sealwax.cli.settingsfile import PathPattern
from tests.cli.conftest import K, Keys, Run

FILE = """\
key = "alias/demo"
context = { project = "shop" }
"""
RULES = (
    FILE
    + """
[[rule]]
path = ["prod/**", "*.pem"]
key = ["alias/demo2", "alias/demo"]
context = { env = "prod", project = "prod-shop" }

[[rule]]
path = "s3://vault/"
key = "alias/foreign"
"""
)


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEALWAX_KEY", "SEALWAX_CONTEXT", "SEALWAX_SETTINGS", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def sealed_under(path: Path) -> tuple[list[str], Mapping[str, str]]:
    """The ARNs and the context in a header."""
    inspection = sealwax.inspect(path)
    return [key.key_arn for key in inspection.wrapped_keys], inspection.context


def shown(run: Run, capfd: pytest.CaptureFixture[str], *path: str) -> dict[str, object]:
    capfd.readouterr()
    assert run("settings", "show", "--json", *path) == 0
    facts: dict[str, object] = json.loads(capfd.readouterr().out)
    return facts


# --- what it brings


def test_files_are_sealed_and_opened_with_nothing_typed(
    run: Run, here: Path, keys: Keys, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "sealwax.toml").write_text(FILE)
    (here / "below").mkdir()
    (here / "below/a").write_bytes(b"a")
    assert run("encrypt", "below/a") == 0
    first = capfd.readouterr().err.splitlines()[0]
    assert first == f"sealwax: settings from {here}/sealwax.toml: key alias/demo; context project"
    assert sealed_under(here / "below/a.swx") == ([keys.demo], {"project": "shop"})
    assert run("decrypt", "-q", "below/a.swx", "-o", "b") == 0
    assert capfd.readouterr().err == ""
    assert (here / "b").read_bytes() == b"a"


def test_nothing_is_said_if_nothing_is_brought(run: Run, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "sealwax.toml").write_text(FILE)
    (here / "a").write_bytes(b"a")
    assert run("encrypt", *K, "-c", "project=typed", "a") == 0
    assert run("inspect", "a.swx") == 0
    assert "settings" not in capfd.readouterr().err


def test_the_nearer_counts(
    run: Run, here: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "sealwax.toml").write_text(FILE + 'local_context = ["who"]\n')
    (here / "a").write_bytes(b"a")
    monkeypatch.setenv("SEALWAX_KEY", "alias/demo2")
    monkeypatch.setenv("SEALWAX_CONTEXT", "project=variable,team=x,who=me")

    def sealed(*options: str) -> tuple[list[str], Mapping[str, str]]:
        assert run("encrypt", "--force", *options, "a") == 0
        return sealed_under(here / "a.swx")

    assert sealed() == ([keys.demo2], {"project": "variable", "team": "x"})  # "who" stays local
    assert run("verify", "a.swx") == 0
    assert run("verify", "-c", "who=you", "a.swx") == 5
    assert run("verify", "--accept-stored-context", "a.swx") == 0, "local pairs still count"
    assert run("verify", "--no-settings", "a.swx") == 6, "that is what says that 'who' is local"
    assert sealed("-k", "alias/foreign", "-c", "team=y") == ([keys.foreign], {"project": "variable", "team": "y"})
    assert "team" not in capfd.readouterr().err
    assert sealed("--no-context") == ([keys.demo2], {})
    assert run("verify", "--no-context", "a.swx") == 0


def test_local_names_of_a_rule_hold_for_the_variable(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, keys: Keys
) -> None:
    (here / "sealwax.toml").write_text(FILE + '[[rule]]\npath = "a"\nlocal_context = ["who"]\n')
    for name in ("a", "b"):
        (here / name).write_bytes(b"a")
    monkeypatch.setenv("SEALWAX_CONTEXT", "who=me")
    assert run("encrypt", "a", "b") == 0
    assert sealed_under(here / "a.swx") == ([keys.demo], {"project": "shop"})
    assert sealed_under(here / "b.swx") == ([keys.demo], {"project": "shop", "who": "me"})
    assert run("verify", "a.swx", "b.swx") == 0
    assert run("verify", "--accept-stored-context", "a.swx", "b.swx") == 0


def test_a_trusted_stored_context_needs_no_pair_of_the_file(run: Run, here: Path, keys: Keys) -> None:
    (here / "sealwax.toml").write_text(FILE)
    (here / "a.swx").write_bytes(keys.sealer(keys.demo).encrypt(b"a", context={"other": "one"}))
    assert run("verify", "a.swx") == 6
    assert run("verify", "--accept-stored-context", "a.swx") == 0


@pytest.mark.parametrize("off", [(), ("--no-settings",)], ids=["variable", "option"])
def test_the_file_can_be_left_out(
    run: Run, here: Path, off: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "sealwax.toml").write_text("nonsense")
    (here / "a").write_bytes(b"a")
    if not off:
        monkeypatch.setenv("SEALWAX_SETTINGS", "")
    assert run("encrypt", "a", *off) == 2
    assert "name a KMS key with -k" in capfd.readouterr().err
    assert run("encrypt", *K, "-c", "a=b", "a", *off) == 0


def test_region_suffix_and_workers_come_from_it(
    run: Run, here: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arn = keys.lab.create_key(region="eu-west-1")["Arn"]
    key = arn.rpartition("/")[2]
    (here / "sealwax.toml").write_text(
        f'key = "{key}"\ncontext = {{ a = "b" }}\n'
        'region = "eu-west-1"\nsuffix = ".env"\nworkers = 1\nprofile = "none"\n'
    )
    (here / "a").write_bytes(b"a")
    assert run("encrypt", "a") == 0
    assert "; region eu-west-1; suffix .env; workers 1\n" in capfd.readouterr().err, "a lab needs no profile"
    assert sealed_under(here / "a.env") == ([arn], {"a": "b"})
    assert run("encrypt", "a", "--suffix", ".x") == 0
    assert "; suffix" not in capfd.readouterr().err
    assert run("keys", "list", "--json") == 0
    out = capfd.readouterr().out.splitlines()
    assert {json.loads(line)["region"] for line in out} == {"eu-west-1"}
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    assert run("inspect", "s3://bucket/a") == 7
    assert "Invalid endpoint" in capfd.readouterr().err, "nor does S3 beside it"
    assert run("audit", "--json", "--fail-on", "never", "--allow-incomplete") == 0
    report, err = capfd.readouterr()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    assert run("keys", "list") == 0
    assert "settings" not in capfd.readouterr().err
    assert f"key {key}; region eu-west-1" in err
    assert json.loads(report)["regions"] == ["eu-west-1"]


# --- rules


def test_each_file_is_sealed_under_its_rule(
    run: Run, here: Path, keys: Keys, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "sealwax.toml").write_text(RULES)
    for name in ("t/a", "t/tls.pem", "t/b"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(name.encode())
    (here / "prod").mkdir()
    (here / "prod/c").write_bytes(b"prod/c")
    assert run("encrypt", "-r", "t", "prod") == 0
    said = [line for line in capfd.readouterr().err.splitlines() if "settings" in line]
    of_rule = "rule 1 (prod/**, *.pem): key alias/demo2, alias/demo; context project, env"
    assert said == [
        f"sealwax: settings from {here}/sealwax.toml: key alias/demo; context project",
        f"sealwax: settings from {here}/sealwax.toml, {of_rule}",
    ]
    top, rule = ([keys.demo], {"project": "shop"}), ([keys.demo2, keys.demo], {"env": "prod", "project": "prod-shop"})
    under = {str(path.relative_to(here)): sealed_under(path) for path in here.rglob("*.swx")}
    assert under == {"t/a.swx": top, "t/b.swx": top, "t/tls.pem.swx": rule, "prod/c.swx": rule}
    assert run("verify", "-r", "t", "prod") == 0
    assert run("reencrypt", "--to", "alias/demo", "-r", "t", "prod") == 0
    assert run("rewrap", "--to", "alias/demo", "-r", "t", "prod") == 0
    assert run("decrypt", "-r", "t", "prod", "-o", "back") == 0
    assert (here / "back/tls.pem").read_bytes() == b"t/tls.pem"
    assert run("encrypt", "-r", "t", "prod") == 8, "they are under other keys now"


def test_only_the_keys_of_its_rule_open_a_file(
    run: Run, here: Path, keys: Keys, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "sealwax.toml").write_text(
        '[[rule]]\npath = "a"\nkey = "alias/demo"\n[[rule]]\npath="b"\nkey="alias/demo2"'
    )
    data = keys.sealer(keys.demo).encrypt(b"a", context={"x": "y"})
    for name in ("a.swx", "b.swx"):
        (here / name).write_bytes(data)
    assert run("verify", "-v", "-c", "x=y", "a.swx", "b.swx") == 8
    err = capfd.readouterr().err
    assert "1 of 2 failed; 1 authentic; " in err
    assert "IncorrectKeyException" in err


def test_a_file_without_a_key_fails_by_itself(run: Run, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "sealwax.toml").write_text('[[rule]]\npath = "*.pem"\nkey = "alias/demo"\ncontext = { a = "b" }\n')
    for name in ("a.pem", "b"):
        (here / name).write_bytes(b"a")
    assert run("encrypt", "a.pem", "b") == 8
    err = capfd.readouterr().err
    assert f"b: '{here}/sealwax.toml' has no rule with a key for it; add one, or name a KMS key with -k" in err
    assert run("encrypt", "b") == 2
    assert run("verify", "a.pem.swx", "b") == 8
    assert "may decrypt it with -k or in SEALWAX_KEY\n" in capfd.readouterr().err, "the first file's keys say nothing"
    assert run("encrypt", "b", *K) == 6, "no context either"


def test_a_detached_header_follows_its_payload(run: Run, here: Path) -> None:
    (here / "sealwax.toml").write_text(RULES)
    (here / "a.pem").write_bytes(b"a")
    assert run("encrypt", "a.pem", "--detached", "header") == 0
    assert run("rewrap", "--to", "alias/demo", "--detached", "header", "a.pem.swx") == 0
    assert run("decrypt", "--detached", "header", "a.pem.swx", "-o", "b") == 0
    assert (here / "b").read_bytes() == b"a"


def test_streams_are_under_the_top(run: Run, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "sealwax.toml").write_text('[[rule]]\npath = "**"\nkey = "alias/demo"\n')
    assert run("encrypt", "-c", "a=b", "-o", "x", "/dev/null") == 2, "outside of the folder"
    assert run("encrypt", "-c", "a=b", "-o", "x", "-") == 2
    assert capfd.readouterr().err.count("no rule with a key for it") == 2
    (here / "sealwax.toml").write_text('region = "eu-west-1"')
    assert run("encrypt", "-c", "a=b", "-o", "x", "-") == 2
    assert f"sealwax: '{here}/sealwax.toml' has no key; add one, or name a KMS key" in capfd.readouterr().err


def test_a_plan_has_one_context_for_all(
    run: Run, here: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "sealwax.toml").write_text(
        'local_context = ["who"]\nsuffix = ".s"\n[context]\nproject = "shop"\nwho = "me"\nfile = "{name}"\n'
    )
    (here / "in").mkdir()
    (here / "in/a.s").write_bytes(keys.sealer(keys.demo).encrypt(b"a", context={"project": "shop", "file": "a"}))
    plan = ("fleet", "plan", "in", "--from", "alias/demo", "--to", "alias/demo2", "--force", "-o", "p")
    assert run(*plan, "--json") == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["stale"] == 1
    assert f"settings from {here}/sealwax.toml: context file, project; suffix .s\n" in err
    with (here / "sealwax.toml").open("a") as file:
        file.write('[[rule]]\npath = "x"\ncontext = { a = "b" }\n')
    assert run(*plan) == 2
    assert f"rule 1 (x) of '{here}/sealwax.toml' has a context of its own" in capfd.readouterr().err
    assert run(*plan, "--accept-stored-context") == 0
    assert run(*plan, "-c", "project=shop") == 0
    monkeypatch.setenv("SEALWAX_CONTEXT", "project=shop")  # for all commands, and not meant to leave anything out
    assert run(*plan) == 2


def test_prove_takes_the_top(run: Run, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "sealwax.toml").write_text('key = ["alias/demo", "alias/demo2"]\ncontext = { file = "{name}" }')
    assert run("prove") == 2
    assert "name one KMS key with -k or in SEALWAX_KEY" in capfd.readouterr().err
    (here / "sealwax.toml").write_text('key = "alias/demo"\ncontext = { file = "{name}" }')
    assert run("prove") == 2
    assert "there is no named file here" in (err := capfd.readouterr().err)
    assert "or use --no-settings" in err


def test_policies_contain_what_is_typed(
    run: Run, here: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "sealwax.toml").write_text(FILE)
    monkeypatch.setenv("SEALWAX_CONTEXT", "a=b")
    assert run("policy", "iam", "encrypt", "-k", keys.demo) == 2
    assert "no context was given" in capfd.readouterr().err
    assert run("policy", "iam", "encrypt") == 2


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.pem", ["a.pem", "x/a.pem", "a.pem/x"], ["a.pem.x", "apem"]),
        ("prod", ["prod", "prod/a/b", "x/prod/a"], ["prods", "x"]),
        ("prod/", ["prod/a", "x/prod/a"], ["prods/a"]),
        ("./prod", ["prod/a"], ["x/prod/a"]),
        ("prod/*", ["prod/a", "prod/a/b"], ["prod", "x/prod/a"]),
        ("prod/**", ["prod/a", "prod/a/b"], ["prod", "prods/a"]),
        ("prod/*.e?v", ["prod/x.env"], ["prod/a/x.env", "prod/x.ev"]),
        ("prod/**/x", ["prod/x", "prod/a/b/x", "prod/a/x/y"], ["x", "prod/xx"]),
        ("**/b/c", ["b/c", "a/b/c"], ["bb/c"]),
        ("**", ["a", "a/b"], []),
        ("**/**/a/**/**/b", ["a/b", "x/a/y/z/b"], ["b", "b/a"]),
        ("[ab]/x", ["a/x", "b/x"], ["c/x", "A/x"]),
        ("s3://vault", ["vault/a"], ["x/vault"]),
        ("s3://vault/prod/*", ["vault/prod/a"], ["vault/a"]),
    ],
)
def test_patterns_are_those_of_gitignore(pattern: str, yes: Sequence[str], no: Sequence[str]) -> None:
    assert [path for path in (*yes, *no) if PathPattern(pattern).matches(tuple(path.split("/")))] == yes


def test_a_long_pattern_takes_no_time() -> None:
    path = ("a",) * 200
    assert not PathPattern("/".join(["**", "a"] * 100) + "/b").matches(path)
    assert PathPattern("/".join(["**", "a"] * 100)).matches(path)


def test_rules_hold_for_objects_and_links(run: Run, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "sealwax.toml").write_text(RULES)
    (here.parent / "link").symlink_to(here)
    numbers = []
    for name in (
        "s3://vault/a.swx",
        "s3://vaults/a",
        "prod/x.swx",
        f"{here.parent}/link/prod/x",
        "../prod/x",
        "./prod/x",
    ):
        rule = shown(run, capfd, name)["rule"]
        numbers.append(rule["number"] if isinstance(rule, dict) else None)
    assert numbers == [2, None, 1, 1, None, 1]


# --- SEALWAX_CONTEXT


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", {}),
        ("a=b", {"a": "b"}),
        ("a=b,c=d=e", {"a": "b", "c": "d=e"}),
        ("a=,b={name}", {"a": "", "b": "{name}"}),
        ('{"a b": "c,d", "e": "{{name}}"}', {"a b": "c,d", "e": "{{name}}"}),
    ],
)
def test_the_variable_has_pairs(
    text: str, pairs: Mapping[str, str], run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALWAX_CONTEXT", text)
    assert shown(run, capfd)["context"] == {
        name: {"value": value, "from": "SEALWAX_CONTEXT"} for name, value in pairs.items()
    }


@pytest.mark.parametrize(
    "text",
    [
        *("a", "a=b,c", "a=b,", "=b", "a=b c=d", "a=b, c=d", "a=b\nc=d", "a=b,a=c", "a={path}"),
        *("{", "{}x", '{"a": 1}', '{"": "b"}', '{"a": {}}', '{"a": "b", "a": "c"}', '{"a": ' * 20_000),
    ],
)
def test_a_wrong_variable_is_refused(
    text: str, run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALWAX_CONTEXT", text)
    (here / "a").write_bytes(b"a")
    assert run("encrypt", *K, "a") == 2
    assert "Error: SEALWAX_CONTEXT " in capfd.readouterr().err
    assert run("encrypt", *K, "--no-context", "a") == 0, "then it is not read"


# --- settings show


def test_show_says_where_each_value_comes_from(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "sealwax.toml").write_text('region = "eu-west-1"\nprofile = "dev"\nlocal_context = ["who"]\n' + RULES)
    monkeypatch.delenv("SEALWAX_LAB")
    monkeypatch.setenv("SEALWAX_CONTEXT", "team=x")
    assert run("settings", "show", "prod/a.swx") == 0
    assert capfd.readouterr().out.splitlines() == [
        f"settings  {here}/sealwax.toml",
        "rule      rule 1 (prod/**, *.pem)",
        "SETTING        VALUE              FROM",
        "key            alias/demo2        sealwax.toml, rule 1",
        "key            alias/demo         sealwax.toml, rule 1",
        "context        project=prod-shop  sealwax.toml, rule 1",
        "context        env=prod           sealwax.toml, rule 1",
        "context        team=x             SEALWAX_CONTEXT",
        "local_context  who                sealwax.toml",
        "region         eu-west-1          sealwax.toml",
        "profile        dev                sealwax.toml",
        "suffix         .swx               default",
        "workers        8                  default",
    ]
    monkeypatch.setenv("SEALWAX_KEY", "alias/x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDHIDDEN")
    facts = shown(run, capfd)
    assert facts["rule"] is None
    assert facts["key"] == [{"value": "alias/x", "from": "SEALWAX_KEY"}]
    assert facts["region"] == {"value": "us-west-2", "from": "AWS_DEFAULT_REGION"}
    assert facts["profile"] == {"value": None, "from": "AWS_ACCESS_KEY_ID"}
    assert "AKIDHIDDEN" not in json.dumps(facts)
    (here / "prod").mkdir()
    assert run("settings", "show", "prod") == 2
    assert "'prod' is a folder, and rules are for files" in capfd.readouterr().err
    assert run("settings", "show", "--no-settings") == 0
    assert capfd.readouterr().out.startswith("settings  none\nSETTING")


def test_an_identity_of_the_environment_counts_over_the_profile(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "sealwax.toml").write_text('profile = "staging"\n')
    monkeypatch.delenv("SEALWAX_LAB")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(here / "none"))
    assert run("keys", "list", "--region", "eu-west-1") == 7
    err = capfd.readouterr().err
    assert f"settings from {here}/sealwax.toml: profile staging\n" in err
    assert "The config profile (staging) could not be found" in err
    for variable in (
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ):
        with monkeypatch.context() as inside:
            inside.setenv(variable, "there")
            value = "there" if "PROFILE" in variable else None
            assert shown(run, capfd)["profile"] == {"value": value, "from": variable}
            assert run("keys", "list", "--region", "") != 0  # whatever the reason, it is not the profile
            assert "staging" not in capfd.readouterr().err
