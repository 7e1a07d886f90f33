"""sealwax audit, as it is typed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from sealwax.audit import _factsfile
from sealwax.audit._facts import Facts
from sealwax.audit._report import Gap
from tests.audit import accounts
from tests.audit.accounts import clean, key
from tests.cli.shell import ROOT, Shell

OPEN = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*"}],
}


@pytest.fixture
def wrong() -> Facts:
    """An account with a public key."""
    return clean(key(policy=json.dumps(OPEN)))


def saved(shell: Shell, facts: Facts) -> None:
    shell.write("facts.json", _factsfile.dump(facts))


def findings(shell: Shell, *arguments: str, status: int = 3) -> list[dict[str, Any]]:
    done = shell.sealwax("audit", "--facts", "facts.json", "--json", *arguments)
    assert done.status == status, done
    found: list[dict[str, Any]] = json.loads(done.out)["findings"]
    return found


def test_a_clean_account_has_no_finding(bare_shell: Shell) -> None:
    saved(bare_shell, clean())
    done = bare_shell.sealwax("audit", "--facts", "facts.json").succeeded()
    assert done.out.decode() == (
        "checked 1 key, 2 roles, 1 trail, 1 event of account 111122223333 in eu-west-1, as of 2026-11-24 21:00:00 UTC\n"
        "No findings.\n"
        "next: nothing to fix\n"
    )
    assert done.err == ""


def test_a_public_key_is_found_with_its_statement_and_fix(bare_shell: Shell, wrong: Facts) -> None:
    saved(bare_shell, wrong)
    found = {one["rule"]: one for one in findings(bare_shell)}
    public = found["key-policy-public"]
    assert public["severity"] == "critical"
    assert public["resource"] == wrong.keys[0].arn
    assert public["statement"] == OPEN["Statement"][0]
    assert public["fix"]
    assert public["standards"]
    table = bare_shell.sealwax("audit", "--facts", "facts.json")
    assert table.status == 3
    assert table.out.decode().startswith("critical  ")


def test_the_json_fits_its_schema(bare_shell: Shell, wrong: Facts) -> None:
    schema = json.loads((ROOT / "docs/reference/audit.schema.json").read_text("utf-8"))
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    validator.check_schema(schema)
    saved(bare_shell, wrong)
    every = findings(bare_shell)
    entry = {"rule": every[0]["rule"], "resource": every[0]["resource"], "reason": "known"}
    old = {"rule": every[1]["rule"], "resource": every[1]["resource"], "reason": "known", "expires": "2001-01-01"}
    baseline = {"format": "sealwax-baseline-1", "accepted": [entry, old]}
    bare_shell.write("base.json", json.dumps(baseline).encode())
    done = bare_shell.sealwax("audit", "--facts", "facts.json", "--baseline", "base.json", "--json")
    document = json.loads(done.out)
    validator.validate(document)
    assert document["findings"]
    assert document["access"]
    assert len(document["accepted"]) == len(document["expired"]) == 1
    assert document["next"].startswith("see how to fix each finding: sealwax audit ")
    done = bare_shell.sealwax("audit", "--facts", "facts.json", "--report", "r.json", "-q")
    report = json.loads(bare_shell.read("r.json"))
    validator.validate(report)
    assert report["made"]["command"] == "sealwax audit --facts facts.json --report r.json -q"
    assert report["made"]["account"] == accounts.OWN
    del document["findings"][0]["fix"]
    assert not validator.is_valid(document)


def test_fail_on_says_which_findings_count(bare_shell: Shell) -> None:
    facts = clean()
    saved(bare_shell, replace(facts, keys=(replace(facts.keys[0], rotation=replace_off(facts)),)))
    assert [one["rule"] for one in findings(bare_shell, status=0)] == ["rotation-off"]
    assert findings(bare_shell, "--fail-on", "medium")
    assert findings(bare_shell, "--fail-on", "never", status=0)


def replace_off(facts: Facts) -> Any:
    rotation = facts.keys[0].rotation
    assert rotation is not None
    return replace(rotation, enabled=False, period_days=None)


def test_a_baseline_accepts_until_its_last_day(bare_shell: Shell, wrong: Facts) -> None:
    saved(bare_shell, wrong)
    every = findings(bare_shell)

    def baseline(expires: str) -> None:
        accepted = [
            {"rule": one["rule"], "resource": one["resource"], "reason": "known", "expires": expires} for one in every
        ]
        bare_shell.write("base.json", json.dumps({"format": "sealwax-baseline-1", "accepted": accepted}).encode())

    baseline(str(wrong.time.date()))
    assert findings(bare_shell, "--baseline", "base.json", status=0) == []
    strange = {"rule": "key-policy-pubic", "resource": every[0]["resource"], "reason": "a slip"}
    one = {"rule": every[0]["rule"], "resource": every[0]["resource"], "reason": "known"}
    both = json.dumps({"format": "sealwax-baseline-1", "accepted": [one, strange]}).encode()
    bare_shell.write("base.json", both)
    arguments = ("audit", "--facts", "facts.json", "--baseline", "base.json", "--fail-on", "never")
    done = bare_shell.sealwax(*arguments, "--json").succeeded()
    assert json.loads(done.out)["unmatched"] == [strange | {"expires": None}]
    assert "1 baseline entry without a finding" in done.err
    table = bare_shell.sealwax(*arguments).succeeded().out.decode()
    assert "unmatched  key-policy-pubic in 1 key: a slip; " in table
    assert f"  - {strange['resource']}" in table
    page = bare_shell.sealwax(*arguments, "--report", "-", "--report-format", "html").succeeded()
    assert b"<code>key-policy-pubic</code>" in page.out
    baseline("2001-01-01")
    assert findings(bare_shell, "--baseline", "base.json") == every
    done = bare_shell.sealwax("audit", "--facts", "facts.json", "--baseline", "base.json")
    assert "no longer accepted since 2001-01-01  key-policy-public in 1 key: known" in done.out.decode()
    done = bare_shell.sealwax("audit", "--facts", "facts.json", "--baseline", "base.json", "--json")
    assert "no longer accepted since 2001-01-01: key-policy-public" in done.err


@pytest.mark.parametrize("form", ["csv", "html", "json", "junit", "ocsf", "sarif"])
def test_every_format_is_written_whole_and_never_over_a_file(bare_shell: Shell, wrong: Facts, form: str) -> None:
    saved(bare_shell, wrong)
    arguments = ("audit", "--facts", "facts.json", "--report", "report", "--report-format", form)
    assert bare_shell.sealwax(*arguments).status == 3
    report = (bare_shell.folder / "report").read_bytes()
    assert b"key-policy-public" in report
    bare_shell.sealwax(*arguments).failed(1, "already exists")
    assert bare_shell.sealwax(*arguments, "--force").status == 3
    assert (form == "csv") == (b"\r\n" in report)


def test_the_lab_is_audited_and_saved_facts_give_the_same(shell: Shell) -> None:
    shell.sealwax("audit", "--all", "--save-facts", "facts.json", "--fail-on", "never").succeeded()
    live = shell.sealwax("audit", "--facts", "facts.json", "--json").succeeded()
    document = json.loads(live.out)
    assert document["counts"]["keys"] >= 3
    assert {one["rule"] for one in document["findings"]} >= {"rotation-off"}
    # What a lab does not have is not fine; it was not looked at.
    assert {one["what"].split(":")[0] for one in document["gaps"]} == {"iam", "events", "logs", "cloudtrail"}
    assert {one["refused"] for one in document["gaps"]} == {False}
    assert "could not be checked" in live.err
    again = shell.sealwax("audit", "--facts", "facts.json", "--json").succeeded()
    assert again.out == live.out


def test_an_audit_that_was_refused_something_does_not_end_well(bare_shell: Shell, wrong: Facts) -> None:
    denied = Gap("kms:ListGrants", wrong.keys[0].arn, accounts.REGION, "AccessDenied")
    never_asked = Gap(
        "iam:GetAccountAuthorizationDetails", "*", "", "the lab does not have this service", refused=False
    )
    audit = ("audit", "--facts", "facts.json")

    def status(facts: Facts, *options: str) -> int:
        saved(bare_shell, facts)
        return bare_shell.sealwax(*audit, *options).status

    assert status(clean(gaps=(never_asked,))) == 0
    incomplete = clean(gaps=(denied, never_asked))
    assert status(incomplete) == 8
    assert status(incomplete, "--fail-on", "never") == 8
    assert status(incomplete, "--json", "-q") == 8
    bare_shell.sealwax(*audit, "-q").failed(8, "1 lookup failed, so the audit is incomplete")
    assert status(incomplete, "--allow-incomplete") == 0
    done = bare_shell.sealwax(*audit).failed(8).out.decode()
    assert "1 item could not be checked, and may not be fine. 1 lookup failed, so the audit is incomplete." in done
    assert "--allow-incomplete" in done
    # What was found weighs more.
    assert status(replace(wrong, gaps=(denied,)), "--allow-incomplete") == 3
    assert status(replace(wrong, gaps=(denied,))) == 3
    assert status(replace(wrong, gaps=(denied,)), "--fail-on", "never") == 8
    # What cannot be judged was not looked at either.
    assert status(clean(key(policy="{"))) == 8
    # Events from a file are there instead of those that were refused.
    bare_shell.write("none.json", b'{"Records": []}')
    no_events = Gap("cloudtrail:LookupEvents", "*", accounts.REGION, "AccessDenied")
    assert status(clean(events=None, gaps=(no_events,))) == 8
    assert status(clean(events=None, gaps=(no_events,)), "--events", "none.json") == 0


def test_a_mistyped_key_does_not_look_like_one_without_findings(shell: Shell) -> None:
    shell.sealwax("audit", "-k", "alias/none").failed(7, "kms:DescribeKey", "alias/none")
    shell.sealwax("audit", "-k", "alias/demo").succeeded()


def test_accounts_that_are_trusted_may_be_let_in(bare_shell: Shell) -> None:
    policy = accounts.plus(accounts.use(Principal={"AWS": accounts.root(accounts.FOREIGN)}))
    saved(bare_shell, clean(key(policy=policy, grants=(accounts.grant(grantee=accounts.role("X", accounts.FOREIGN)),))))
    found = {one["rule"]: one for one in findings(bare_shell)}
    assert set(found) == {"key-policy-foreign-account", "grant-foreign-account"}
    assert all(f"audit with {accounts.FOREIGN} as trusted" in one["fix"] for one in found.values())
    option = ("--trust-account", accounts.FOREIGN)
    assert findings(bare_shell, *option, status=0) == []
    assert len(findings(bare_shell, "--trust-account", "123456789012")) == 2
    assert findings(bare_shell, "--trust-account", "123456789012", *option, status=0) == []


def test_aliases_ought_to_point_where_they_are_expected(bare_shell: Shell) -> None:
    saved(bare_shell, clean(expected_aliases={}))
    right, wrong = accounts.arn(), accounts.arn(2)
    for name in ("backup", "alias/backup"):
        for expected in (right, right.partition("/")[2]):
            assert findings(bare_shell, "--expect-alias", f"{name}={expected}", status=0) == []
        (found,) = findings(bare_shell, "--expect-alias", f"{name}={wrong}")
        assert found["rule"] == "alias-unexpected-key"
    assert findings(bare_shell, "--expect-alias", f"other={right}", "--fail-on", "medium")
    elsewhere = accounts.arn(1, accounts.OTHER_REGION)
    bare_shell.sealwax("audit", "--facts", "facts.json", "--expect-alias", f"backup={elsewhere}").failed(
        2, "add --region us-east-1"
    )


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--trust-account", "12345678901", "twelve digits"),
        ("--trust-account", "arn:aws:iam::123456789012:root", "twelve digits"),
        ("--trust-account", "\uff11" * 12, "twelve digits"),
        ("--expect-alias", "backup", "NAME=KEY"),
        ("--expect-alias", "backup=", "NAME=KEY"),
        ("--expect-alias", "=1234", "NAME=KEY"),
        ("--expect-alias", "backup=alias/other", "NAME=KEY"),
    ],
)
def test_what_is_no_account_and_no_alias_is_refused(bare_shell: Shell, option: str, value: str, said: str) -> None:
    saved(bare_shell, clean())
    bare_shell.sealwax("audit", "--facts", "facts.json", option, value).failed(2, said)
    again = ("--expect-alias", "a=1", "--expect-alias", "alias/a=2")
    bare_shell.sealwax("audit", "--facts", "facts.json", *again).failed(2, "given twice")


def test_what_is_trusted_and_expected_is_saved(shell: Shell) -> None:
    key = "1234abcd-12ab-34cd-56ef-1234567890ab"
    options = ("--trust-account", "999988887777", "--expect-alias", f"demo={key}")
    shell.sealwax("audit", "--all", "--save-facts", "facts.json", *options)
    facts = _factsfile.read_facts(str(shell.folder / "facts.json"))
    assert facts.trusted_accounts == ("999988887777",)
    assert facts.expected_aliases == {"alias/demo": key}
    found = findings(shell)
    assert "alias-unexpected-key" in {one["rule"] for one in found}


def test_refusals(bare_shell: Shell) -> None:
    bare_shell.sealwax("audit").failed(2, "--all")
    bare_shell.sealwax("audit", "--all", "-k", "alias/a").failed(2, "--all")
    bare_shell.sealwax("audit", "--facts", "f", "--all").failed(2, "--facts")
    for option, file in (("--facts", "facts file"), ("--baseline", "baseline"), ("--events", "events file")):
        rest = () if option == "--facts" else ("--all",)
        missing = f"reading the {file} 'nowhere' failed: No such file or directory"
        bare_shell.sealwax("audit", *rest, option, "nowhere").failed(1, missing)
    bare_shell.sealwax("audit", "--all", "--max-age", "1h").failed(2, "--save-facts")
    bare_shell.sealwax("audit", "--facts", "facts.json", "--json", "--report", "-").failed(2, "--report-format")
    for option in ("--facts", "--baseline", "--events"):
        taken = ("--report", "mine.csv", option, "mine.csv", *(() if option == "--facts" else ("--all",)))
        bare_shell.write("mine.csv", b"")
        bare_shell.sealwax("audit", "--force", *taken).failed(2, "--report would overwrite the")
        assert (bare_shell.folder / "mine.csv").read_bytes() == b""
    bare_shell.write("empty", b"")
    bare_shell.sealwax("audit", "--facts", "empty").failed(1, "is not JSON")
    saved(bare_shell, clean())
    for text in (b"[]", b'{"format": "sealwax-baseline-1", "accepted": [{"rule": 1}]}'):
        bare_shell.write("base.json", text)
        bare_shell.sealwax("audit", "--facts", "facts.json", "--baseline", "base.json").failed(1, "is not a baseline")
    bare_shell.write("base.json", b'{"format": ' + b"9" * 5000 + b"}")
    many = "'base.json' is not a baseline: it has a number of too many digits\n"
    bare_shell.sealwax("audit", "--facts", "facts.json", "--baseline", "base.json").failed(1, many)
    entry = b'{"rule": "a", "resource": "b", "reason": "c", "expires": "2001-01-01", "expires": "2999-01-01"}'
    bare_shell.write("base.json", b'{"format": "sealwax-baseline-1", "accepted": [' + entry + b"]}")
    bare_shell.sealwax("audit", "--facts", "facts.json", "--baseline", "base.json").failed(1, "'expires' twice")
    doubled = _factsfile.dump(clean()).replace(b'"account":', b'"account":"999988887777","account":', 1)
    bare_shell.write("facts.json", doubled)
    bare_shell.sealwax("audit", "--facts", "facts.json").failed(1, "'account' twice")
    bare_shell.sealwax("audit", "--all", "--region", "us-east-1").failed(7, "no AWS credentials")
