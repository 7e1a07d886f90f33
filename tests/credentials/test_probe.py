import json, os
from pathlib import Path
import pytest
import sealwax
from sealwax import cli, fleet
from sealwax.lab import Lab
from tests.credentials.endpoint import *
from tests.credentials.test_sources import *
from tests.credentials.test_loops import program, runs
K2 = KEY.replace("us-east-1", "eu-west-1")
V = {
 "keys rotate": ["keys","rotate","--now",KEY],
 "keys rotate every": ["keys","rotate","--every","365",KEY],
 "policy explain": ["policy","explain",ROLE,"kms:Decrypt",KEY],
 "policy grant": ["policy","grant","--key",KEY,"-c","a=b","--to",ROLE,"--for","1h"],
 "verify v": ["verify","-v","-r","-k",KEY,"-c","a=b","env"],
 "audit v": ["audit","-v","--all"],
 "prove json": ["prove","-k",KEY,"-c","a=b","--json"],
 "audit json": ["audit","--all","--json"],
 "audit out": ["audit","--all","-o","report.html"],
 "fleet run": ["fleet","run","plan0"],
 "fleet run apply": ["fleet","run","plan0","--apply"],
 "fleet run stale": ["fleet","run","plan0","--apply", "--stale"],
 "fleet verify": ["fleet","verify","plan0"],
 "fleet verify d": ["fleet","verify","plan0","--decrypt","3"],
 "fleet status": ["fleet","status","plan0"],
 "keys list json": ["keys","list","--json"],
}
@pytest.fixture(scope="module")
def seal(tmp_path_factory):
    d = tmp_path_factory.mktemp("env")
    with Lab(d/"lab") as lab:
        a = lab.create_key()["Arn"]
        s = sealwax.Sealer(sealwax.KmsKeyring(a, session=lab.session()))
        (d/"env").mkdir(); (d/"files").mkdir()
        for i in range(12):
            (d/"env"/f"{i:02}.swx").write_bytes(s.encrypt(b"x", context={"a":"b"}))
            (d/"files"/f"{i:02}").write_bytes(b"x")
        b = lab.create_key()["Arn"]
        fleet.plan(d/"plan0", [str(d/"env")], sources=[a], to=[b], contexts=fleet.Contexts((("a","b"),)), session=lab.session())
    return d, a
@pytest.mark.parametrize("name", V)
@pytest.mark.parametrize("how", ["exit 1", "newline"])
def test_v(name, how, seal, settings, endpoint, monkeypatch, capfd):
    d, arn = seal
    monkeypatch.chdir(d)
    script = "sleep 0.05; exit 1" if how == "exit 1" else f"cat <<'END'\n{json.dumps(GIVEN | {'SessionToken': TOKEN + chr(10)})}\nEND"
    notes = program(settings, script)
    capfd.readouterr()
    status = cli.run([x.replace(KEY, arn).replace(K2, arn.replace("us-east-1","eu-west-1")) for x in V[name]])
    out, err = capfd.readouterr()
    with capfd.disabled():
        flag = "" if status == 7 and runs(notes) == 1 and err.count("failed: ") == 1 and not has_secret(out+err) else "  <<<<<<<"
        print(f"\n== {name} / {how}: {status} runs={runs(notes)} asked={endpoint.operations()[:3]}{flag}")
        if flag or name.endswith(" v"): print("   ", out[-300:], "|", err.strip()[:1200])
