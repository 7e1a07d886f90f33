"""sealwax audit for people: each rule once, a line for each resource, a verdict, and what to do next."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from datetime import date
from typing import Final

import pytest

from sealwax._text import printable
from sealwax.audit import Audit, Finding, Fix, Severity, _factsfile, run
from sealwax.audit._facts import Facts
from sealwax.audit._report import Acceptance, Gap
from sealwax.cli import findings
from tests.audit import accounts, many
from tests.audit.samples import ATTACKS, AUDITS, CLEAN, ORDINARY, key, role
from tests.cli.shell import Shell


def lines(audit: Audit, *, whole: bool = False, width: int = 0) -> list[str]:
    return list(findings.text(audit, whole=whole, width=width))


def saved(shell: Shell, facts: Facts) -> None:
    shell.write("facts.json", _factsfile.dump(facts))


def test_a_rule_of_200_keys_is_one_block_with_200_lines() -> None:
    text = lines(run(many.unrotated(200, expected_aliases={})))
    assert text[0] == "medium  automatic rotation is off (rotation-off): 200 keys"
    assert text[1].startswith("  why: ")
    assert text[2] == "  fix: aws kms enable-key-rotation"
    assert text[3:203] == [f"  - {accounts.arn(number)} (alias/team{number})" for number in range(1, 201)]
    assert text[203] == ""
    assert len(text) == 205


def test_the_details_of_each_key_are_on_its_line_and_other_keys_have_their_aliases() -> None:
    facts = many.mixed(3)
    reaches = f"can re-encrypt to {accounts.arn(2)}, which it can decrypt with"
    about = ("rule", Severity.HIGH, accounts.arn(1), f"a title: {reaches}", "why")
    finding = Finding(*about, None, Fix("Do."), (), reaches)
    text = lines(replace(run(facts), findings=(finding, finding), gaps=()))
    assert text[0] == "high  a title (rule): 2 findings in 1 key"
    reached = f"{accounts.arn(2)} (alias/team2), which it can decrypt with"
    assert text[3] == f"  - {accounts.arn(1)} (alias/team1): can re-encrypt to {reached}"


def test_the_statement_and_the_fix_of_each_finding_are_told_by_v() -> None:
    assert not any("put-key-policy" in line for line in lines(ORDINARY))
    text = "\n".join(lines(ORDINARY, whole=True))
    for finding in ORDINARY.findings:
        for block in finding.fix.blocks:
            assert f"\n\n{block.text}\n\n" in text
    assert f"is:  {json.dumps(ORDINARY.findings[0].statement)}" in text


def found(*counts: tuple[Severity, int]) -> tuple[Finding, ...]:
    numbers = iter(range(1, 1000))
    return tuple(
        Finding("rule", severity, key(next(numbers)), "title", "why", None, Fix("Do."), ())
        for severity, count in counts
        for _ in range(count)
    )


REFUSED: Final = Gap("kms:ListGrants", key(1), "eu-west-1", "denied")
LIMIT: Final = Gap("iam:X", "*", "", "the lab does not have this service", refused=False)
VERDICTS: Final = {
    "No findings": {},
    "1 critical finding; 1 of 3 keys is affected": {"findings": found((Severity.CRITICAL, 1))},
    "2 critical, 1 low findings; 3 of 3 keys are affected": {
        "findings": found((Severity.CRITICAL, 2), (Severity.LOW, 1))
    },
    "1,500 medium findings; 1 of 1,200 keys is affected": {
        "findings": found((Severity.MEDIUM, 1)) * 1500,
        "counts": {"keys": 1200},
    },
    "1 high finding": {"findings": (replace(ORDINARY.findings[1]),)},
    "No findings. The baseline accepts 1 finding": {"accepted": ORDINARY.accepted},
    "No findings. 1 lookup failed, so the audit is incomplete": {"gaps": (REFUSED,)},
    "No findings. 2 items could not be checked, and may not be fine. 2 lookups failed, so the audit is incomplete": {
        "gaps": (REFUSED, LIMIT, LIMIT, REFUSED)
    },
}


@pytest.mark.parametrize("says", VERDICTS)
def test_a_verdict_counts_by_severity_in_plain_grammar(says: str) -> None:
    assert replace(CLEAN, **VERDICTS[says]).verdict == says  # type: ignore[arg-type]


def test_what_was_not_checked_is_told_by_kind_with_three_examples() -> None:
    gaps = tuple(Gap("kms:ListGrants", key(number), "eu-west-1", "denied") for number in range(1, 60))
    gaps += (Gap("cloudtrail:LookupEvents", "*", "eu-west-1", "denied"), LIMIT)
    text = lines(replace(CLEAN, gaps=gaps))
    assert text[:7] == [
        "not checked  kms:ListGrants of 59 keys: denied",
        *(f"  - {key(number)}" for number in range(1, 4)),
        "  and 56 more (-v shows all)",
        "not checked  cloudtrail:LookupEvents in eu-west-1: denied",
        "not checked  iam:X: the lab does not have this service",
    ]
    assert len([line for line in lines(replace(CLEAN, gaps=gaps), whole=True) if line.startswith("  - ")]) == 59


def test_a_baseline_of_many_is_told_by_reason() -> None:
    facts = many.unrotated(30, expected_aliases={})
    entries = [Acceptance("rotation-off", one.arn, "by hand", date(2999, 1, 1)) for one in facts.keys]
    entries += [Acceptance("rotation-of", one.arn, "mistyped", None) for one in facts.keys[:2]]
    result = run(facts, entries)
    text = lines(result)
    assert text[0] == "accepted until 2999-01-01  rotation-off in 30 keys: by hand"
    assert text[1] == f"  - {accounts.arn(1)} (alias/team1)"
    assert text[4] == "  and 27 more (-v shows all)"
    assert text[5].startswith("unmatched  rotation-of in 2 keys: mistyped; ")
    assert result.verdict == "No findings. The baseline accepts 30 findings"


@pytest.mark.parametrize("audit", AUDITS.values(), ids=AUDITS)
@pytest.mark.parametrize("whole", [False, True])
def test_no_name_in_it_controls_a_terminal(audit: Audit, whole: bool) -> None:
    text = lines(audit, whole=whole, width=80)
    assert [line for line in text if not line.isprintable()] == []
    if audit is AUDITS["hostile"]:
        assert printable(ATTACKS[4]) in "\n".join(text)


def next_command(text: str) -> list[str]:
    (command,) = re.findall(r"^(?:sealwax: )?next: .*?: (sealwax .*)$", text, re.MULTILINE)
    return shlex.split(command)[1:]


def test_what_is_next_can_be_typed_and_makes_the_page(bare_shell: Shell) -> None:
    saved(bare_shell, many.mixed(4))
    done = bare_shell.sealwax("audit", "--facts", "facts.json", "--trust-account", "123456789012")
    assert done.status == 3
    assert done.err == ""
    *_, says, following = done.out.decode().splitlines()
    assert says.startswith("1 critical, 1 high, ")
    assert next_command(following) == [
        *("audit", "--facts", "facts.json", "--trust-account", "123456789012", "--report", "audit.html")
    ]
    done = bare_shell.sealwax(*next_command(following))
    assert done.out.decode().endswith("\nnext: open audit.html, and fix the worst first\n")
    page = bare_shell.read("audit.html").decode()
    assert "fix the worst first, and audit again after each fix: the key policy is open to everyone (1 key)" in page
    # A page is never offered in place of another.
    done = bare_shell.sealwax("audit", "--facts", "facts.json", "--report", "r.csv", "--json", "--force")
    assert next_command(done.err) == ["audit", "--facts", "facts.json", "--report", "audit-2.html"]
    assert json.loads(done.out)["verdict"] + ".\n" == done.err.partition(": ")[2].partition("sealwax: next")[0]
    done = bare_shell.sealwax("audit", "--facts", "facts.json", "--json", "-q")
    assert (done.status, done.err) == (3, "")


def test_saved_facts_are_what_the_page_is_made_of(shell: Shell) -> None:
    everything = ("audit", "--all", "--region", "us-east-1", "--save-facts", "my facts.json", "--fail-on", "never")
    command = next_command(shell.sealwax(*everything).succeeded().out.decode())
    assert command == ["audit", "--fail-on", "never", "--facts", "my facts.json", "--report", "audit.html"]
    shell.sealwax(*command).succeeded()
    page = shell.read("audit.html").decode()
    assert "the lab in" not in page  # the facts do not tell
    assert "<dt>Caller</dt><dd><code>arn:aws:iam::111122223333:root</code>" in page
    assert "--facts &#x27;my facts.json&#x27;" in page or "--facts 'my facts.json'" in page


def test_prose_is_broken_as_wide_as_the_terminal_and_names_are_whole(bare_shell: Shell) -> None:
    saved(bare_shell, many.mixed(3))
    for width in (80, 120):
        done, shown = bare_shell.on_terminal("audit", "--facts", "facts.json", streams="stdout", COLUMNS=str(width))
        assert done.status == 3
        *text, following = shown.replace("\r", "").splitlines()
        assert following.startswith("next: ")
        assert [line for line in text if len(re.sub(r"\x1b\[[0-9]*m", "", line)) > width] == []
        assert any(line.startswith(f"  - {accounts.arn(1)}") for line in text)
    assert role("x") not in shown
