"""What --force does not overwrite: data and keys, with what can be made again; and what the run itself reads."""

from __future__ import annotations

import pytest

from tests.cli.shell import Shell

K = "-k alias/demo -c purpose=backup"
PLAN = "sealwax fleet plan --from alias/demo --to alias/demo2 -c purpose=backup"


def test_a_plan_replaces_plans_only(shell: Shell) -> None:
    shell.write("in/1", b"1")
    shell.transcript(f"""
        $ sealwax encrypt -q {K} -r -o out in && cp out/1.swx kept && : > empty && echo mine > notes
        $ {PLAN} --force -o out/1.swx out/1.swx
        [1] 'out/1.swx' failed: the file of this name is not a plan, or cannot be read, and only a plan is replaced
        $ {PLAN} --force -o out/1.swx out
        [1] only a plan is replaced
        $ {PLAN} --force -o notes out
        [1] only a plan is replaced
        $ {PLAN} --force -o "$SEALWAX_LAB/state.db" out
        [1] only a plan is replaced
        $ cmp kept out/1.swx && test "$(cat notes)" = mine && test "$(ls -A out)" = 1.swx
        $ {PLAN} --force -o empty out && {PLAN} --force -o empty out
        [0] The only envelope has to be re-wrapped
    """)


def test_reports_and_facts_replace_neither_data_nor_keys(shell: Shell) -> None:
    shell.write("in/1", b"1")
    encrypted = "which is encrypted data; name another file"
    database = "which is a database, such as a plan or a lab; name another file"
    shell.transcript(f"""
        $ sealwax encrypt -q {K} -r -o out in && {PLAN} -o p out && cp -r out kept && cp p p.kept
        $ sealwax encrypt -q {K} --armor -o text in/1 && sealwax encrypt -q {K} --as esdk -o message in/1
        $ sealwax fleet run p --apply --report out/1.swx --report-format json --force
        [2] --report would overwrite 'out/1.swx', {encrypted}
        $ {PLAN} -o p --force --report out/1.swx --report-format json out
        [2] {encrypted}
        $ sealwax audit --all --report text --report-format json --force
        [2] {encrypted}
        $ sealwax audit --all --report message --report-format json --force
        [2] {encrypted}
        $ sealwax audit --all --fleet-plan p --report p --report-format json --force
        [2] {database}
        $ sealwax audit --all --report "$SEALWAX_LAB/state.db" --report-format json --force
        [2] {database}
        $ sealwax audit --all --save-facts out/1.swx --force
        [2] --save-facts would overwrite 'out/1.swx', {encrypted}
        $ cmp kept/1.swx out/1.swx && cmp p p.kept && sealwax lab keys | grep alias/demo
        $ echo '{{}}' > old.json && sealwax audit --all --fail-on never --report old.json --force && test -s old.json
    """)


def test_an_envelope_does_not_replace_what_the_run_reads(shell: Shell) -> None:
    shell.write("a", b"1")
    shell.write("c.json", b'{"purpose": "backup"}')
    shell.transcript(f"""
        $ sealwax encrypt -k alias/demo --context-file c.json --force -o c.json a
        [1] the output would overwrite 'c.json', which this run reads
        $ sealwax encrypt {K} --force -o "$SEALWAX_LAB/state.db" a
        [1] which this run reads
        $ sealwax encrypt {K} --force -o "$SEALWAX_LAB/../$(basename "$SEALWAX_LAB")/trail.db" a
        [1] which this run reads
        $ printf '[context]\\npurpose = "backup"\\n' > sealwax.toml
        $ sealwax encrypt -k alias/demo --force -o sealwax.toml a
        [1] the output would overwrite 'sealwax.toml', which this run reads
        $ sealwax encrypt -q -k alias/demo c.json sealwax.toml
        $ sealwax decrypt -q -k alias/demo --force -o sealwax.toml sealwax.toml.swx && grep purpose sealwax.toml
        $ rm sealwax.toml
        $ sealwax decrypt -q -k alias/demo --context-file c.json --force -o c.json c.json.swx && sealwax lab keys
        [0] alias/demo
        $ sealwax decrypt -q -k alias/demo --context-file c.json --force -o "$SEALWAX_LAB/state.db" c.json.swx
        [1] which this run reads
        $ sealwax lab keys
        [0] alias/demo
    """)


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("S3://b/x", "S3:"),
        ("s3:/b/x", "s3:"),
        ("s3:b", "s3:"),
        ("https://b.s3.amazonaws.com/x", "https://"),
        ("arn:aws:s3:::b/x", "arn:aws"),
    ],
)
def test_a_name_that_was_meant_for_s3_makes_no_folder(name: str, begins: str, shell: Shell) -> None:
    shell.write("in/1", b"1")
    with shell.unchanged():
        shell.transcript(f"""
            $ sealwax encrypt {K} -r -o {name} in
            [2] a name that begins with '{begins}' would be a path; write s3://bucket/key, in lower case
            $ sealwax encrypt {K} -o {name} in/1
            [2] would be a path
            $ sealwax encrypt {K} --detached {name} in/1
            [2] would be a path
            $ sealwax inspect {name}
            [2] would be a path
            $ sealwax edit {K} {name}
            [2] would be a path
            $ {PLAN} -o p {name}
            [2] would be a path
            $ {PLAN} -o p --also esdk --move --into {name} in
            [2] would be a path
        """)


def test_such_a_path_can_still_be_named(shell: Shell) -> None:
    shell.write("a", b"1")
    shell.transcript(f"""
        $ sealwax encrypt {K} -o ./s3:a a
        [0] encrypted
        $ sealwax decrypt {K} -o b ./s3:a && cmp a b
        $ mv a "S3: notes" && sealwax encrypt {K} *notes && sealwax verify {K} S3*.swx && sealwax inspect S3*.swx
    """)
