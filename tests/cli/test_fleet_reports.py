"""What the reports of a fleet end with, and what --report writes: how it stands, what to do next, who made it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from sealwax import __version__, fleet
from sealwax.cli.fleet_reports import verdict_of
from sealwax.fleet import Checked, FleetReport, State
from sealwax.fleet._journal import ProblemKind
from tests.cli.conftest import Keys
from tests.cli.shell import Shell, flipped
from tests.fleet.samples import NEW, OLD, OTHER, report

PLAN = ("fleet", "plan", "--from", "alias/demo", "--to", "alias/demo2", "-c", "purpose=*", "--digest", "all")


WELL = "All 1,234 envelopes are under alias/new"
SOME = {State.REWRAPPED: (1217, 0), State.STALE: (17, 0)}
FAILED = {State.REWRAPPED: (1217, 0), State.FAILED: (15, 0), State.REFUSED: (2, 0)}
APPLY, AGAIN = "sealwax fleet run 'a plan' --apply", "sealwax fleet run 'a plan' --stale --apply"
VERIFY = "sealwax fleet verify 'a plan'"
LIST = "sealwax fleet status 'a plan' --list"


@pytest.mark.parametrize(
    ("found", "tone", "says", "then"),
    [
        (report(), "good", "All 1,234 envelopes are under alias/new", VERIFY),
        (report(states=SOME), "unsure", "17 of 1,234 envelopes are still stale", APPLY),
        (
            report(states=SOME, ended="its time is up"),
            "unsure",
            "17 of 1,234 envelopes are still stale, because its time is up",
            APPLY,
        ),
        (report(states=FAILED), "bad", "17 of 1,234 envelopes could not be re-wrapped", APPLY),
        (
            report(states=FAILED | {State.STALE: (1, 0)}, ended="why"),
            "bad",
            "17 of 1,235 envelopes could not be re-wrapped, and 1 of 1,235 envelopes is still stale, because why",
            APPLY,
        ),
        (report(states={State.REFUSED: (3, 0)}), "bad", "None of the 3 envelopes could be re-wrapped", "plan again"),
        (report(states={State.FAILED: (1, 0)}), "bad", "The only envelope could not be re-wrapped", APPLY),
        (
            report(states={State.REWRAPPED: (1, 0)}),
            "good",
            "The only envelope is under alias/new",
            VERIFY,
        ),
        (
            report(states={State.STALE: (3, 0)}, dry_run=True),
            "unsure",
            "Dry run: nothing was written; all 3 envelopes would be re-wrapped",
            APPLY,
        ),
        (
            report(dry_run=True),
            "good",
            "Dry run: nothing was written; all 1,234 envelopes are under alias/new",
            VERIFY,
        ),
        (report("plan", states=SOME), "unsure", "17 of 1,234 envelopes have to be re-wrapped under alias/new", APPLY),
        (
            report("plan", states={State.STALE: (1, 0)}, reencrypt=True),
            "unsure",
            "The only envelope has to be re-encrypted under alias/new",
            APPLY,
        ),
        (
            report("plan", states={State.STALE: (5, 0), State.REFUSED: (1, 0)}),
            "bad",
            "1 of 6 envelopes cannot be re-wrapped, and 5 of 6 envelopes have to be re-wrapped under alias/new",
            f"go on with the rest: {APPLY}",
        ),
        (
            report("plan", missing_regions={"us-east-1": 3}),
            "good",
            "All 1,234 envelopes are under alias/new",
            "--add-region",
        ),
        (
            report(states={State.SKIPPED: (5, 0), State.FRESH: (2, 0)}),
            "good",
            "All 2 envelopes are under alias/new (5 envelopes with another context skipped)",
            VERIFY,
        ),
        (
            report(states={State.SKIPPED: (1, 0)}),
            "bad",
            "The only envelope does not have the context of the plan",
            "-c",
        ),
        (report(states={State.SKIPPED: (5, 0)}), "bad", "None of the 5 envelopes has the context of the plan", "-c"),
        (report(empty=("/data",), states={}), "bad", "There is no envelope in /data", "check the names"),
        (
            report(locations=("/data", "/more"), empty=("/more",)),
            "unsure",
            "There is no envelope in /more",
            "check the names of the places",
        ),
        (
            report(states={State.FRESH: (1, 0), State.UNREADABLE: (2, 0), State.DAMAGED: (1, 0), State.LINK: (2, 0)}),
            "unsure",
            "1 envelope has a damaged header, 2 objects could not be read or listed, and 2 links were not followed",
            LIST,
        ),
        (report("plan", unbound=1), "good", "All 1,234 envelopes are under alias/new", VERIFY),
        (report(notes=("a note",)), "unsure", "Old key material cannot be detected", "kms:ListKeyRotations"),
        (
            report("verify", checked=Checked(digests=3, decrypted=2, gone=1)),
            "good",
            f"{WELL}, and 3 payloads are unchanged (2 decrypted; 1 object of the plan no longer there)",
            "sealwax keys retire alias/old --scan 'a plan'",
        ),
        (report("verify", checked=Checked(), sources=(NEW,)), "good", "All 1,234 envelopes are under alias/new", AGAIN),
        (
            report("verify", checked=Checked(), sources=(OLD, OTHER, NEW), after=((NEW, "", 1), (OLD, "", 2))),
            "good",
            "All 1,234 envelopes are under alias/new",
            f"sealwax keys retire {OTHER} --scan 'a plan'",
        ),
        (report("verify", checked=Checked(), states=SOME), "unsure", "17 of 1,234 envelopes are still stale", AGAIN),
        (
            report("verify", checked=Checked(changed=("a",), undecrypted=(("c", "why"),)), states=SOME),
            "bad",
            "1 payload changed since the plan, 1 envelope failed to decrypt, and 17 of 1,234 envelopes are still stale",
            "restore them from a backup",
        ),
        (
            report("verify", checked=Checked(unread=(("a", "why"),))),
            "unsure",
            "1 object could not be read or listed",
            LIST,
        ),
        (
            report("verify", checked=Checked(gone=7), empty=("/data",), states={}),
            "bad",
            "There is no envelope in /data: every object of the plan is gone (7)",
            "whether they are mounted",
        ),
        (
            report("verify", checked=Checked(elsewhere=2)),
            "unsure",
            "No envelope of the sample could be decrypted here",
            "use `sealwax verify`",
        ),
        (
            report("verify", checked=Checked(cbc=1), also=("s3ec",)),
            "unsure",
            "No object of the sample could be decrypted here",
            "read objects in AES-CBC with the program that wrote them",
        ),
        (
            report(
                "plan",
                states={State.REFUSED: (1, 0)},
                kinds=(ProblemKind(State.REFUSED, "'s3://b/does not move' is something else", 1),),
            ),
            "bad",
            "The only envelope cannot be re-wrapped",
            "fix the causes listed",
        ),
    ],
)
def test_how_a_fleet_stands(found: FleetReport, tone: str, says: str, then: str) -> None:
    verdict = verdict_of(found, "a plan")
    assert (verdict.tone, verdict.says) == (tone, says)
    assert verdict.next.endswith(then) if verdict.command else then in verdict.next


def test_whatever_is_not_done_is_not_called_well() -> None:
    """For each state alone: only what is done is good."""
    for state in State:
        found = report(states={state: (3, 0)} | {State.FRESH: (4, 0)})
        assert (verdict_of(found, "p").tone == "good") == found.done, state


def fill(shell: Shell, keys: Keys, count: int = 3) -> None:
    sealer = keys.sealer(keys.demo)
    for at in range(count):
        shell.write(f"data/{at:03}.swx", sealer.encrypt(b"value", context={"purpose": "backup"}))


def _end(out: bytes) -> list[str]:
    return out.decode().splitlines()[-2:]


def test_each_step_names_the_next_one_and_it_can_be_pasted(shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    done = shell.sealwax(*PLAN, "-o", "my plan", "data").succeeded()
    assert _end(done.out)[0] == "All 3 envelopes have to be re-wrapped under alias/demo2."
    well = "All 3 envelopes are under alias/demo2"
    for says in (f"{well}.", f"{well}, and 3 payloads are unchanged."):
        command = _end(done.out)[1].removeprefix("next: ")
        done = shell.bash(command).succeeded()
        assert _end(done.out)[0] == says
    assert _end(done.out)[1] == "next: sealwax keys retire alias/demo --scan 'my plan'"
    assert shell.bash(_end(done.out)[1].removeprefix("next: ")).succeeded().out


def test_the_next_command_goes_to_the_same_kms(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 1)
    del shell.environment["SEALWAX_LAB"]
    lab = ("--lab", str(keys.lab.path), "--region", "us-east-1")
    done = shell.sealwax(*PLAN, *lab, "-o", "p", "data").succeeded()
    then = _end(done.out)[1]
    assert then == f"next: sealwax fleet run p --apply --region us-east-1 --lab {shlex.quote(str(keys.lab.path))}"
    shell.bash(then.removeprefix("next: ")).succeeded()


def test_aliases_stand_beside_arns(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 1)
    planned = shell.sealwax(*PLAN, "-o", "p", "--report", "plan.html", "data").succeeded().out.decode()
    assert f"  from         alias/demo ({keys.demo})\n" in planned
    done = shell.sealwax("fleet", "run", "p", "--apply").succeeded().out.decode()
    assert f"  to           alias/demo2 ({keys.demo2})\n" in done
    assert f"1  alias/demo2 ({keys.demo2})" in done
    facts = json.loads(shell.sealwax("fleet", "status", "p", "--json").succeeded().out)
    assert facts["aliases"] == {keys.demo: ["alias/demo"], keys.demo2: ["alias/demo2"]}
    page = shell.read("plan.html").decode()
    assert page.count(f'<b>alias/demo</b> <code class="arn">{keys.demo}</code>') == 2
    named = ("fleet", "plan", "--from", keys.demo, "--to", keys.demo2, "-c", "purpose=*", "-o", "q", "data")
    assert f"  from         {keys.demo}\n" in shell.sealwax(*named).succeeded().out.decode()


def test_a_report_says_who_made_it_and_how(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 1)
    shell.sealwax(*PLAN, "-o", "p", "data", "--report", "p.html", "--report", "p.json").succeeded()
    facts = json.loads(shell.read("p.json"))
    made = facts["made"]
    assert facts["verdict"] == "The only envelope has to be re-wrapped under alias/demo2"
    assert facts["next"] == "sealwax fleet run p --apply"
    assert made["command"] == shlex.join(
        ("sealwax", *PLAN, "-o", "p", "data", "--report", "p.html", "--report", "p.json")
    )
    assert made["version"] == __version__
    assert re.fullmatch(r"arn:aws:iam::\d{12}:\S+", made["caller"])
    assert made["account"] == made["caller"].split(":")[4]
    assert made["regions"] == ["us-east-1"]
    assert made["source"] == f"the lab in {Path(keys.lab.path).resolve()}, not AWS"
    page = shell.read("p.html").decode()
    for shown in (made["caller"], made["command"], made["source"], "<h1>", facts["verdict"], facts["next"]):
        assert shown in page


def test_what_failed_looks_failed_on_the_page(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 2)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    shell.sealwax("fleet", "run", "p", "--apply", "--report", "good.html").succeeded()
    assert '<header class="good">' in shell.read("good.html").decode()
    damaged = shell.folder / "data/000.swx"
    damaged.write_bytes(flipped(damaged.read_bytes(), -1))
    shell.sealwax("fleet", "verify", "p", "--report", "bad.html").failed(5)
    page = shell.read("bad.html").decode()
    assert '<header class="bad">' in page
    assert '<li class="bad"><b>1</b>payload changed</li>' in page
    assert "<b>0</b>" not in page
    assert page.index("payload changed") < page.index("<h2>Keys")


def test_zeros_are_left_out_of_the_text(shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    text = shell.sealwax("fleet", "run", "p", "--apply").succeeded().out.decode()
    assert not re.search(r"(?<![\w,.])0(?![\w,.])", re.sub(r"\S*/\S*", "", text)), text


def test_a_report_replaces_nothing_unasked(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 1)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    shell.write("taken.html", b"mine")
    with shell.unchanged():
        shell.sealwax("fleet", "run", "p", "--apply", "--report", "taken.html").failed(1, "exists; use --force")
        shell.sealwax("fleet", "run", "p", "--apply", "--report", "no/such.html").failed(1, "'no' is not a folder")
        shell.sealwax("fleet", "run", "p", "--apply", "--report", "p", "--report-format", "html", "--force").failed(
            2, "--report would overwrite 'p', which is a database"
        )
    shell.sealwax("fleet", "run", "p", "--apply", "--report", "taken.html", "--force").succeeded()
    assert shell.read("taken.html").startswith(b"<!doctype html>")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--report", "x.pdf"),
            "the format of 'x.pdf' is unclear; choose one with --report-format (html, json)",
        ),
        (("--report", "x.csv"), "the format of 'x.csv' is unclear"),
        (("--report", "-"), "the format of a report on standard output is unclear"),
        (("--report-format", "html"), "--report-format requires exactly one --report FILE"),
        (("--report", "a.html", "--report", "b.html", "--report-format", "html"), "exactly one"),
        (("--report", "a.html", "--report", "./a.html"), "given twice"),
        (("--report", "s3://bucket/a.html"), "not S3 objects"),
        (("--report", "-", "--report-format", "json", "--json"), "use --json or --report -, not both"),
    ],
)
def test_reports_that_cannot_be_meant(options: tuple[str, ...], said: str, shell: Shell) -> None:
    with shell.unchanged():
        shell.sealwax("fleet", "status", "p", *options).failed(2, said)


def test_a_report_on_standard_output_stands_alone(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 1)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    out = shell.sealwax("fleet", "status", "p", "--report", "-", "--report-format", "json").succeeded().out
    assert json.loads(out)["made"]["caller"] is None
    assert (
        shell.sealwax("fleet", "status", "p", "--report", "-", "--report-format", "html")
        .succeeded()
        .out.startswith(b"<!doctype html>")
    )


def test_quiet_prints_nothing_but_errors(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 1)
    assert (done := shell.sealwax(*PLAN, "-q", "-o", "p", "data").succeeded()).out + done.err.encode() == b""
    for verb in (("run", "p"), ("run", "p", "--apply"), ("verify", "p")):
        done = shell.sealwax("fleet", *verb, "-q").succeeded()
        assert (done.out, done.err) == (b"", "")
    damaged = shell.folder / "data/000.swx"
    damaged.write_bytes(flipped(damaged.read_bytes(), -1))
    done = shell.sealwax("fleet", "verify", "p", "-q").failed(5, "1 payload changed")
    assert done.out == b""


def test_a_plan_without_aliases_is_read(shell: Shell, keys: Keys) -> None:
    """As those of early builds are."""
    fill(shell, keys, 1)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    from sealwax.fleet._journal import Journal

    with Journal(shell.folder / "p") as journal, journal.writing() as connection:
        connection.execute("DELETE FROM facts WHERE name = 'aliases'")
    assert fleet.status(shell.folder / "p").aliases == {}
    assert f"  from         {keys.demo}\n" in shell.sealwax("fleet", "status", "p").succeeded().out.decode()


def test_secrets_in_a_typed_url_stay_out_of_reports(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 1)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    del shell.environment["SEALWAX_LAB"]
    url = "https://user:hunter2@127.0.0.1:9/?token=hunter3"
    done = shell.sealwax("fleet", "verify", "p", "--endpoint-url", url, "--report", "v.html", "--report", "v.json")
    text = done.failed(8).out.decode() + done.err + shell.read("v.html").decode() + shell.read("v.json").decode()
    assert "hunter" not in text
    assert "https://***@127.0.0.1:9/?***" in text


def test_objects_of_one_kind_are_told_once_and_all_are_counted(shell: Shell, keys: Keys) -> None:
    for number in range(25):
        shell.write(f"in/{number:02}", b"x")
    shell.sealwax("encrypt", "-r", "-k", keys.foreign, "-c", "purpose=x", "-o", "sealed", "in").succeeded()
    planned = shell.sealwax(*PLAN, "-o", "a plan", "--report", "page.html", "sealed")
    assert planned.status == 8
    lines = planned.out.decode().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("  refused: "))
    place = shell.folder / "sealed"
    assert lines[first].startswith(f"  refused: 25 objects: it is wrapped under '{keys.foreign}', not under a source")
    assert lines[first + 1 :] == [
        *(f"    {place}/{number:02}.swx" for number in range(3)),
        "    and 22 more",
        f"  list all: {LIST}",
        "None of the 25 envelopes can be re-wrapped.",
        "next: fix the causes listed, and plan again",
    ]
    page = (shell.folder / "page.html").read_text("utf-8")
    assert page.count("not under a source key") == 1
    assert "02.swx</code><br>and 22 more</td>" in page
    assert "KMS calls" not in page, "zeros are hidden"
    shell.sealwax(*shlex.split(LIST)[1:], "--report", "b.html").failed(2, "use --list or --report, not both")
    listed = shell.sealwax(*shlex.split(LIST)[1:]).succeeded().out
    assert listed.count(b"refused: ") == 25


def test_a_kind_leaves_out_what_differs_between_its_objects(shell: Shell, keys: Keys) -> None:
    for number in range(6):
        shell.write(f"in/{number}", b"x")
    shell.sealwax("encrypt", "-r", "-k", keys.demo, "-c", "purpose=x", "-o", "sealed", "in").succeeded()
    shell.sealwax(*PLAN, "-o", "plan", "sealed").succeeded()
    for number in range(4):
        (shell.folder / f"sealed/{number}.swx").unlink()
    text = shell.sealwax("fleet", "run", "plan", "--apply").out.decode()
    assert "\n  left: 4 objects: opening '...' failed: No such file or directory\n    /" in text
    assert text.count(".swx\n") == 4, "four names take no more lines than three and a number"
    assert "more" not in text
