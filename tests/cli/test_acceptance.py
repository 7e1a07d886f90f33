"""The main job as it is typed, in an empty folder and with no AWS configuration at all."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable

from tests.cli.shell import ROOT, Shell

AWS = ROOT / ".venv-awscli" / "bin" / "aws"

FIELDS = [
    "path", "version", "kind", "suite", "envelope_id", "context", "local_pairs", "payload_offset", "payload_bytes",
    "plaintext_bytes", "slots", "sequence", "finished", "wrapped_keys",
]  # fmt: skip
KEY_FIELDS = ["provider", "key_arn", "key_material_id", "wrapped_at", "ciphertext_blob"]


def test_as_typed_with_the_lab_in_a_folder(bare_shell: Shell) -> None:
    shell = bare_shell
    shell.environment["SEALWAX_LAB"] = "./lab"
    shell.write("a.bin", os.urandom(3_000_000))
    shell.transcript("""
        $ sealwax lab create-key --alias demo
        [0] arn:aws:kms:us-east-1:
        $ sealwax lab create-key --alias demo2
        [0] arn:aws:kms:us-east-1:
        $ sealwax encrypt -k alias/demo -c purpose=backup -o a.swx a.bin
        [0] /lab, not AWS
        $ sealwax decrypt -k alias/demo -c purpose=backup -o b.bin a.swx
        $ cmp a.bin b.bin
        $ cat a.bin | sealwax encrypt -k alias/demo -c purpose=backup - | \\
          sealwax decrypt -k alias/demo -c purpose=backup - | cmp - a.bin
        $ sealwax inspect --json a.swx
        [0] "kind": "attached"
        $ sealwax verify -k alias/demo -c purpose=backup a.swx
        [0] authentic, 3000000 bytes
        $ cp a.swx old.swx
        $ sealwax rewrap -k alias/demo --to alias/demo2 -c purpose=backup a.swx
        $ sealwax decrypt -k alias/demo2 -c purpose=backup a.swx -o - | cmp - a.bin
        $ sealwax decrypt -k alias/demo -c purpose=backup a.swx -o c.bin
        [7] does not point to
        $ test ! -e c.bin
        $ cmp -i 12288 a.swx old.swx
        $ SEALWAX_KEY=alias/demo sealwax decrypt -c purpose=backup --range 1000:1010 -o - old.swx | \\
          cmp - <(head -c 1010 a.bin | tail -c 10)
    """)


def test_inspect_json_has_every_promised_field(bare_shell: Shell) -> None:
    shell = bare_shell
    shell.environment["SEALWAX_LAB"] = "./lab"
    shell.write("a.bin", b"x" * 20_000)
    shell.transcript("""
        $ sealwax lab create-key --alias demo
        $ sealwax encrypt -k alias/demo -c purpose=backup -c owner=me -o a.swx a.bin
    """)
    shell.environment.clear()  # no lab, no home: inspect needs neither
    done = shell.sealwax("inspect", "--json", "a.swx").succeeded()
    facts = json.loads(done.out)
    assert done.out.count(b"\n") == 1
    assert [name for name in FIELDS if name not in facts] == []
    assert facts["context"] == {"purpose": "backup", "owner": "me"}
    assert (facts["path"], facts["kind"], facts["plaintext_bytes"]) == ("a.swx", "attached", 20_000)
    assert (facts["slots"], facts["sequence"], facts["finished"]) == (1, 1, True)
    assert facts["payload_offset"] + facts["payload_bytes"] == (shell.folder / "a.swx").stat().st_size
    (key,) = facts["wrapped_keys"]
    assert [name for name in KEY_FIELDS if name not in key] == []
    assert len(bytes.fromhex(key["key_material_id"])) == 32
    assert len(base64.b64decode(key["ciphertext_blob"], validate=True)) > 32


def test_as_typed_against_a_served_lab_with_any_access_key(bare_shell: Shell, served: Callable[[Shell], str]) -> None:
    shell = bare_shell
    url = served(shell)
    shell.write("a.bin", os.urandom(100_000))
    shell.environment |= {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    shell.transcript(f"""
        $ sealwax lab create-key --lab ./lab --alias demo
        $ sealwax lab create-key --lab ./lab --alias demo2
        $ sealwax encrypt --endpoint-url {url} -k alias/demo -c purpose=backup -o a.swx a.bin
        $ sealwax decrypt --endpoint-url {url} -k alias/demo -c purpose=backup -o b.bin a.swx
        $ cmp a.bin b.bin
        $ cat a.bin | sealwax encrypt --endpoint-url {url} -k alias/demo -c purpose=backup - | \\
          sealwax decrypt --endpoint-url {url} -k alias/demo -c purpose=backup - | cmp - a.bin
        $ sealwax rewrap --endpoint-url {url} -k alias/demo --to alias/demo2 -c purpose=backup a.swx
        $ sealwax decrypt --endpoint-url {url} -k alias/demo2 -c purpose=backup -o - a.swx | cmp - a.bin
        $ SEALWAX_LAB=./other sealwax verify --endpoint-url {url} -k alias/demo2 -c purpose=backup a.swx
        [0] ignoring SEALWAX_LAB
        $ test ! -e other
        $ sealwax verify --lab ./lab --endpoint-url {url} -k alias/demo2 -c purpose=backup a.swx
        [2] not both
    """)


def test_the_aws_cli_opens_a_wrapped_key(bare_shell: Shell, served: Callable[[Shell], str]) -> None:
    shell = bare_shell
    url = served(shell)
    shell.environment |= {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    shell.transcript(f"""
        $ sealwax lab create-key --lab ./lab --alias demo
        $ echo secret | sealwax encrypt --endpoint-url {url} -k alias/demo -c purpose=backup -c table=users -o a.swx -
    """)
    facts = json.loads(shell.sealwax("inspect", "--json", "a.swx").succeeded().out)
    (key,) = facts["wrapped_keys"]
    shell.write("blob", base64.b64decode(key["ciphertext_blob"]))
    shell.write("context.json", json.dumps(facts["context"]).encode())
    decrypt = f"{AWS} kms decrypt --endpoint-url {url} --ciphertext-blob fileb://blob --key-id {key['key_arn']}"
    opened = shell.bash(f"{decrypt} --encryption-context file://context.json --output json").succeeded()
    answer = json.loads(opened.out)
    assert len(base64.b64decode(answer["Plaintext"])) == 32
    assert answer["KeyId"] == key["key_arn"]
    shell.bash(f"{decrypt} --encryption-context purpose=other").failed(255, "InvalidCiphertextException")
