"""``sealwax fleet`` and ``sealwax inspect --to`` as they are typed."""

from __future__ import annotations

import io
import json
import re
import signal
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sealwax._core.format import header as hdr
from sealwax._core.keyring import WrappedKey
from sealwax.audit import _factsfile
from sealwax.cli import run
from tests.audit.accounts import clean, key
from tests.cli.conftest import Keys
from tests.cli.shell import Shell, flipped

PLAN = ("fleet", "plan", "--from", "alias/demo", "--to", "alias/demo2", "-c", "purpose=*")


def fill(shell: Shell, keys: Keys, count: int = 5) -> None:
    sealer = keys.sealer(keys.demo)
    for at in range(count):
        shell.write(f"data/{at:03}.swx", sealer.encrypt(b"value", context={"purpose": "backup"}))


def test_from_the_plan_to_the_proof(shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    shell.write("data/foreign", b"hello")
    made = len(keys.calls())
    planned = json.loads(shell.sealwax(*PLAN, "--digest", "all", "-o", "p", "--json", "data").succeeded().out)
    assert planned["from"] == [keys.demo]
    assert planned["to"] == [keys.demo2]
    assert [planned[name] for name in ("objects", "stale", "foreign", "kms_calls", "digests_recorded")] == [
        6,
        5,
        1,
        5,
        5,
    ]
    assert planned["cost_usd"] == 0.000015
    with shell.unchanged():
        said = shell.sealwax("fleet", "run", "p").succeeded().out.decode()
        assert "Dry run: nothing was written; all 5 envelopes would be re-wrapped." in said
    assert set(keys.calls()[made:]) == {"DescribeKey", "ListKeyRotations"}
    done = json.loads(shell.sealwax("fleet", "run", "p", "--apply", "--json").succeeded().out)
    assert [done[name] for name in ("stale", "rewrapped", "failed", "skipped", "kms_calls")] == [0, 5, 0, 0, 5]
    text = shell.sealwax("fleet", "verify", "p", "--decrypt", "2").succeeded().out.decode()
    assert "5 unchanged, of 5 digests" in text
    assert "decrypted    2\n" in text
    listed = shell.sealwax("fleet", "status", "p", "--list").succeeded().out.decode()
    assert re.fullmatch(r"foreign: .*/data/foreign: this is not a sealwax envelope.*\n", listed)
    damaged = shell.folder / "data/002.swx"
    damaged.write_bytes(flipped(damaged.read_bytes(), -1))
    shell.sealwax("fleet", "verify", "p").failed(5, "1 payload changed")


def test_a_place_without_any_envelope_is_named(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 1)
    (shell.folder / "dat").mkdir()
    said = f"no envelopes found in '{shell.folder / 'dat'}'; check the place"
    planned = shell.sealwax(*PLAN, "-o", "p", "--json", "data", "dat").failed(8, said)
    assert json.loads(planned.out)["empty"] == [str(shell.folder / "dat")]
    done = shell.sealwax("fleet", "run", "p", "--apply").failed(8)
    assert done.err.count("no envelopes found") == 1
    (shell.folder / "dat/note").write_bytes(b"hello")
    shell.sealwax("fleet", "run", "p", "--stale", "--apply", "--json").failed(8, said)
    (shell.folder / "dat/a.swx").write_bytes((shell.folder / "data/000.swx").read_bytes())
    again = shell.sealwax("fleet", "run", "p", "--stale", "--apply", "--json").succeeded()
    assert json.loads(again.out)["empty"] == []
    assert "no envelopes found" not in again.err


def test_new_data_keys_from_the_plan_to_the_proof(shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    arguments = (*PLAN, "--reencrypt", "-o", "p")
    planned = json.loads(shell.sealwax(*arguments, "--json", "data").succeeded().out)
    assert [planned[name] for name in ("mode", "stale", "kms_calls")] == ["reencrypt", 5, 10]
    assert planned["bytes_to_move"] == planned["bytes"] > 0
    assert "bytes to read" in shell.sealwax(*arguments, "--force", "data").succeeded().out.decode()
    with shell.unchanged():
        said = shell.sealwax("fleet", "run", "p").succeeded().out.decode()
        assert "Dry run: nothing was written; all 5 envelopes would be re-encrypted." in said
    done = json.loads(shell.sealwax("fleet", "run", "p", "--apply", "--json", "--report", "p.html").succeeded().out)
    assert [done[name] for name in ("stale", "reencrypted", "rewrapped", "failed")] == [0, 5, 0, 0]
    assert "re-encrypted" in (shell.folder / "p.html").read_text()
    made = keys.calls().count("Decrypt")
    assert "plaintexts   5 unchanged, of 5" in shell.sealwax("fleet", "verify", "p").succeeded().out.decode()
    assert keys.calls().count("Decrypt") == made + 5
    shell.sealwax("fleet", "verify", "p", "--digest", "0").succeeded()
    assert keys.calls().count("Decrypt") == made + 5
    damaged = shell.folder / "data/002.swx"
    damaged.write_bytes(flipped(damaged.read_bytes(), -1))
    shell.sealwax("fleet", "verify", "p").failed(5, "1 plaintext changed")


def test_what_is_left_has_its_status(shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    shell.write("data/theirs.swx", keys.sealer(keys.foreign).encrypt(b"", context={"purpose": "backup"}))
    shell.sealwax(*PLAN, "-o", "p", "data").failed(8, "1 envelope cannot be re-wrapped; the first: ")
    shell.sealwax("fleet", "run", "p").failed(8, "1 envelope cannot be re-wrapped; the first: ")
    shell.sealwax("fleet", "run", "p", "--apply").failed(8, "still stale: 1 envelope; run the same command again")
    shell.sealwax("fleet", "verify", "p").failed(8, "stale: 1 envelope;")
    # As a volume looks that is not mounted.
    (shell.folder / "data").rename(shell.folder / "unmounted")
    (shell.folder / "data").mkdir()
    gone = shell.sealwax("fleet", "verify", "p").failed(1, "no envelopes found in")
    assert re.fullmatch(r"sealwax: every object of the plan is gone \(\d\); check that .*", gone.last_line)


def test_a_context_that_fits_nothing_is_told(shell: Shell, keys: Keys) -> None:
    """A typing error would else look like a fleet with nothing to do."""
    fill(shell, keys)
    shell.write("data/foreign", b"hello")
    typo = ("fleet", "plan", "--from", "alias/demo", "--to", "alias/demo2", "-c", "purpsoe=backup", "-o", "p")
    said = "skipped 5 envelopes, because none has the context of the plan; the first: its stored context has"
    shell.sealwax(*typo, "data").failed(6, said, "check the plan's -c")
    shell.sealwax("fleet", "run", "p", "--apply").failed(6, said)
    shell.sealwax("fleet", "run", "p", "--stale", "--apply").failed(6, said)
    assert json.loads(shell.sealwax("fleet", "verify", "p", "--json").failed(6, said).out)["done"] is False
    shell.write("data/one.swx", keys.sealer(keys.demo).encrypt(b"", context={"purpsoe": "backup"}))
    shell.sealwax(*typo, "--force", "data").succeeded()
    shell.sealwax("fleet", "run", "p", "--apply").succeeded()


def test_a_plan_is_not_replaced_unasked_and_runs_from_any_folder(shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    with shell.unchanged():
        shell.sealwax(*PLAN, "-o", "p", "data").failed(1, "already exists; use --force")
    shell.sealwax(*PLAN, "-o", "p", "--force", "data").succeeded()
    (shell.folder / "elsewhere").mkdir()
    shell.bash("cd elsewhere && sealwax fleet run ../p --apply").succeeded()


def test_the_command_of_a_scheduler(shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    command = ("fleet", "run", "p", "--stale", "--apply", "--max-duration", "50m", "--json")
    assert json.loads(shell.sealwax(*command).succeeded().out)["rewrapped"] == 5
    assert json.loads(shell.sealwax(*command).succeeded().out)["kms_calls"] == 0
    shell.write("data/new.swx", keys.sealer(keys.demo).encrypt(b"", context={"purpose": "new"}))
    assert json.loads(shell.sealwax(*command).succeeded().out)["rewrapped"] == 1


def test_a_scheduler_is_not_kept_longer_than_it_said(shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    # All five would take two seconds.
    keys.lab.faults.add("us-east-1", "latency", 400, operation="ReEncrypt", code=None, seed=0)
    command = ("fleet", "run", "p", "--stale", "--apply", "--workers", "1", "--json", "--max-duration")
    cut = shell.sealwax(*command, "1s")
    cut.failed(8)
    assert json.loads(cut.out)["ended"] == "its time is up"
    assert 0 < json.loads(cut.out)["stale"] <= 5
    keys.lab.faults.clear("us-east-1", None)
    assert json.loads(shell.sealwax(*command, "50m").succeeded().out)["stale"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_scan_of_a_scheduler_at_once(number: signal.Signals, shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    shell.write("data/new.swx", keys.sealer(keys.demo).encrypt(b"", context={"purpose": "new"}))
    keys.lab.faults.add("us-east-1", "latency", 20_000, operation="ListKeyRotations", code=None, seed=0)
    made = keys.calls().count("DescribeKey")
    try:
        with shell.start("fleet", "run", "p", "--stale", "--apply", "--json") as process:
            while keys.calls().count("DescribeKey") == made:
                assert process.poll() is None
            process.send_signal(number)
            out, err = process.communicate()
    finally:
        keys.lab.faults.clear("us-east-1", None)
    assert (process.returncode, out) == (128 + number, b""), err
    assert b"Traceback" not in err
    assert json.loads(shell.sealwax("fleet", "status", "p", "--json").succeeded().out)["stale"] == 5
    done = shell.sealwax("fleet", "run", "p", "--stale", "--apply", "--json").succeeded()
    assert json.loads(done.out)["rewrapped"] == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fleet", "plan", "-o", "p", "--to", "alias/demo2", "-c", "a=b", "."), "Missing option '--from'"),
        (("fleet", "plan", "-o", "p", "--from", "alias/demo", "-c", "a=b", "."), "Missing option '--to'"),
        (
            ("fleet", "plan", "-o", "p", "--from", "alias/demo", "--to", "alias/demo2", "."),
            "select envelopes with -c",
        ),
        ((*PLAN, "-o", "p"), "Missing argument"),
        ((*PLAN, "-o", "p", "--older-than", "soon", "."), "'soon' is not a time such as"),
        ((*PLAN, "-o", "p", "--digest", "some", "."), "neither a number nor 'all'"),
        (
            (*PLAN, "-o", "p", "--reencrypt", "--digest", "all", "."),
            "--older-than, --add-region and --digest",
        ),
        (("fleet", "run", "p", "--stale"), "--stale requires --apply"),
        ((*PLAN, "-o", "p", "--rate", "nan", "."), "'nan' is not a finite number"),
        ((*PLAN, "-o", "p", "--rate", "inf", "."), "'inf' is not a finite number"),
        (("fleet", "run", "p", "--apply", "--rate", "nan"), "'nan' is not a finite number"),
        (("fleet", "run", "p", "--apply", "--max-error-rate", "nan"), "'nan' is not a finite number"),
    ],
)
def test_wrong_use(arguments: tuple[str, ...], said: str, shell: Shell) -> None:
    with shell.unchanged():
        shell.sealwax(*arguments).failed(2, said)


def test_places_and_plans_that_are_not_there(shell: Shell) -> None:
    with shell.unchanged():
        shell.sealwax(*PLAN, "-o", "p", "nowhere").failed(1, "nowhere")
        shell.sealwax("fleet", "run", "nothing", "--apply").failed(1, "opening the plan 'nothing' failed")
        shell.sealwax("fleet", "plan", "--from", "alias/no", "--to", "alias/demo2", "-c", "a=*", "-o", "p", ".").failed(
            7, "no such key or alias"
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(number: signal.Signals, shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 60)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    keys.lab.faults.add("us-east-1", "latency", 50, operation="ReEncrypt", code=None, seed=0)
    made = keys.calls().count("ReEncrypt")
    try:
        with shell.start("fleet", "run", "p", "--apply", "--workers", "1", "--json") as process:
            while keys.calls().count("ReEncrypt") == made:
                assert process.poll() is None
            process.send_signal(number)
            out, err = process.communicate()
    finally:
        keys.lab.faults.clear("us-east-1", None)
    assert process.returncode == 8, err
    assert b"because it was stopped; run the same command again to resume" in err
    first = json.loads(out)
    assert 0 < first["rewrapped"] < 60
    rest = json.loads(shell.sealwax("fleet", "run", "p", "--apply", "--json").succeeded().out)
    assert first["rewrapped"] + rest["rewrapped"] == 60
    assert keys.calls().count("ReEncrypt") == made + 60


def test_progress_on_a_terminal(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 30)
    shell.sealwax(*PLAN, "-o", "p", "data").succeeded()
    done, text = shell.on_terminal("fleet", "run", "p", "--apply", streams="stderr")
    assert done.status == 0
    assert "re-wrapping" in text
    assert "re-wrapping" not in shell.sealwax("fleet", "run", "p", "--apply").succeeded().err


class Page(HTMLParser):
    """What a page refers to, and what it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  a parser's
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone(shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    shell.write("data/<script>alert(1)<!--.swx", b"no envelope")
    evil = {"purpose": "</td><script>x</script>"}
    shell.write("data/evil.swx", keys.sealer(keys.demo).encrypt(b"", context=evil))
    shell.sealwax(*PLAN, "-o", "p", "--report", "plan.html", "data").succeeded()
    shell.sealwax("fleet", "run", "p", "--apply", "--report", "run.html").succeeded()
    pages = [Page(shell.read(name).decode()) for name in ("plan.html", "run.html")]
    for page in pages:
        assert page.links == []
        assert page.tags.count("script") == 1  # its own
        assert page.tags.count("svg") == 2
        assert "<script>alert(1)<!--.swx" in page.text
        assert "</td><script>x</script>" in page.text
        assert f"6 under alias/demo {keys.demo}" in page.text
        assert f"6 under alias/demo2 {keys.demo2}" in page.text
    assert "url(" not in shell.read("run.html").decode()
    assert "prefers-color-scheme: dark" in shell.read("run.html").decode()


def test_inspect_says_whether_it_is_stale(shell: Shell, keys: Keys) -> None:
    fill(shell, keys, 1)
    one = "data/000.swx"
    made = len(keys.calls())
    assert "stale      no" in shell.sealwax("inspect", "--to", keys.demo, one).succeeded().out.decode()
    said = shell.sealwax("inspect", "--to", keys.demo2, one).succeeded().out.decode()
    assert "stale      yes: it is not wrapped under exactly the wanted keys" in said
    facts = json.loads(shell.sealwax("inspect", "--json", "--to", keys.demo2, one).succeeded().out)
    assert (facts["stale"], facts["stale_because"]) == (True, ["keys"])
    assert "stale" not in json.loads(shell.sealwax("inspect", "--json", one).succeeded().out)
    assert len(keys.calls()) == made
    by_alias = shell.sealwax("inspect", "--to", "alias/demo", one).succeeded()
    assert f"key        {keys.demo} (alias/demo)\n" in by_alias.out.decode()
    assert "stale      no" in by_alias.out.decode()
    assert f"alias/demo is {keys.demo}" in by_alias.err
    assert keys.calls()[made:] == ["DescribeKey"]
    shell.sealwax("inspect", "--to", "demo", one).failed(2, "(did you mean 'alias/demo'?)")
    made = len(keys.calls())
    shell.sealwax("inspect", "--ask-kms", one).failed(2, "require --to")
    said = shell.sealwax("inspect", "--ask-kms", "--to", "alias/demo", one).succeeded().out.decode()
    assert "stale      no" in said
    assert keys.calls()[made:] == ["DescribeKey", "ListKeyRotations"]


def wrapped_long_ago(sealed: bytes, arn: str) -> bytes:
    """Return an envelope that says so, as whoever may write files can."""
    preamble, crc = hdr.read_preamble(io.BytesIO(sealed).read)
    slot = hdr.Slot(1, (WrappedKey(arn, b"blob", b"", 1),))
    written = hdr.slot_to_bytes(slot, preamble.slot_size, crc)
    return sealed[: preamble.slot_offset] + written + sealed[preamble.payload_offset :]


def test_inspect_and_fleet_call_the_same_stale(shell: Shell, keys: Keys) -> None:
    """For each reason, from the same settings; also what Region is missing."""
    fill(shell, keys, 1)
    one, two = keys.demo, keys.demo2
    far = keys.lab.create_key(region="eu-west-1")["Arn"]

    def staleness(*options: str, of: str = "data") -> tuple[list[str], list[str]]:
        said = shell.sealwax("inspect", "--ask-kms", "--json", *options, f"{of}/000.swx").succeeded()
        facts = json.loads(said.out)
        allowed = ("--from", one, "--from", two, "-c", "purpose=*")
        done = shell.sealwax("fleet", "plan", *allowed, *options, "-o", "p", "--force", "--json", of)
        found = json.loads(done.out)
        assert facts["stale"] is bool(facts["stale_because"])
        assert found["stale_because"] == dict.fromkeys(facts["stale_because"], 1)
        assert found["missing_regions"] == dict.fromkeys(facts["missing_regions"], 1)
        return facts["stale_because"], facts["missing_regions"]

    assert staleness("--to", one) == ([], [])
    assert staleness("--to", two) == (["keys"], [])
    assert staleness("--to", one, "--to", far) == (["keys"], ["eu-west-1"])
    assert staleness("--to", one, "--older-than", "1d") == ([], [])
    shell.write("old/000.swx", wrapped_long_ago(shell.read("data/000.swx"), one))
    assert staleness("--to", one, "--older-than", "1d", of="old") == (["age"], [])
    keys.lab.call("RotateKeyOnDemand", KeyId=one)
    assert staleness("--to", one) == (["material"], [])


def test_an_audit_takes_the_keys_of_a_plan_for_those_of_live_envelopes(tmp_path: Path, keys: Keys) -> None:
    """While they are under a key and after they were moved to another."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.swx").write_bytes(keys.sealer(keys.demo).encrypt(b"value", context={"purpose": "backup"}))
    plan, saved, report = (str(tmp_path / name) for name in ("p", "facts.json", "report.json"))
    lab = ["--lab", str(keys.lab.path)]
    assert run([*PLAN, *lab, "-o", plan, "--json", str(tmp_path / "data")]) == 0

    def unusable(disabled: str, *options: str) -> list[str]:
        facts = clean(
            *(key(arn=arn, state="Disabled" if arn == disabled else "Enabled") for arn in (keys.demo, keys.demo2))
        )
        Path(saved).write_bytes(_factsfile.dump(replace(facts, expected_aliases={})))
        assert run(["audit", "--facts", saved, *options, "--report", report, "--force", "--fail-on", "never"]) == 0
        found = json.loads(Path(report).read_bytes())["findings"]
        return [one["resource"] for one in found if one["rule"] == "unusable-key-with-envelopes"]

    assert unusable(keys.demo) == []
    assert unusable(keys.demo, "--fleet-plan", plan) == [keys.demo]
    assert unusable(keys.demo2, "--fleet-plan", plan) == []
    assert run(["fleet", "run", plan, *lab, "--apply", "--json"]) == 0
    assert unusable(keys.demo, "--fleet-plan", plan) == []
    assert unusable(keys.demo2, "--fleet-plan", plan) == [keys.demo2]
    assert run(["audit", "--facts", saved, "--fleet-plan", saved]) == 1
