"""The commands, by verb: to add a verb or a failure, add a line. Verbs that the program does not have are left out.

``$`` is typed and shown. ``%`` is run by sh before the next one, and not shown. A command may begin with variables.

The commands of a verb run in order in one folder, a copy of the world that ``world.py`` makes: the lab in ``./lab``,
with the keys alias/demo, alias/demo2 and alias/off, which is disabled; a.txt and the folder in/ of plaintext; and
envelopes under alias/demo, bound to purpose=backup: a.swx, b.swx and those of the folder sealed/. tampered.swx has an
altered payload, and damaged.swx an altered header. shop.db is a key store, with a table that fields.toml describes. The
AWS profile carol may do nothing.
"""

from __future__ import annotations

from typing import Final

_ON: Final = "-k alias/demo -c purpose=backup"
_TO: Final = "--to alias/demo2"
_PLAN: Final = "sealwax fleet plan --from alias/demo --to alias/demo2"
_STORE: Final = "--store sqlite:///keys.db"
_SHOP: Final = "--store sqlite:///shop.db --fields fields.toml"
_RUN: Final = "sealwax fleet run rotation.plan"

SCENES: Final[dict[str, str]] = {
    "encrypt": f"""
        $ sealwax encrypt {_ON} a.txt
        $ sealwax encrypt {_ON} a.txt
        $ sealwax encrypt {_ON} nowhere.txt
        $ sealwax encrypt -c purpose=backup a.txt
        $ sealwax encrypt -k alias/demo -o x.swx a.txt
        $ sealwax encrypt -k alias/nothing -c purpose=backup -o x.swx a.txt
        $ sealwax encrypt -k alias/off -c purpose=backup -o x.swx a.txt
        $ AWS_PROFILE=carol sealwax encrypt {_ON} -o x.swx a.txt
        $ sealwax encrypt -r {_ON} in
        % touch in/c.txt; echo other > in/c.txt.swx
        $ sealwax encrypt -r {_ON} in
    """,
    "decrypt": f"""
        $ sealwax decrypt {_ON} -o back.txt a.swx
        $ sealwax decrypt {_ON} -o back.txt a.swx
        $ sealwax decrypt -k alias/demo -c purpose=other -o x a.swx
        $ sealwax decrypt -k alias/demo2 -c purpose=backup -o x a.swx
        $ sealwax decrypt {_ON} -o x a.txt
        $ sealwax decrypt {_ON} -o x tampered.swx
        $ AWS_PROFILE=carol sealwax decrypt {_ON} -o x a.swx
        $ sealwax decrypt -c purpose=backup a.swx
        $ sealwax decrypt -r {_ON} -o out sealed
    """,
    "verify": f"""
        $ sealwax verify {_ON} a.swx
        $ sealwax verify -k alias/demo -c purpose=other a.swx
        $ sealwax verify -k alias/demo2 -c purpose=backup a.swx
        $ sealwax verify {_ON} tampered.swx
        $ sealwax verify {_ON} damaged.swx
        $ sealwax verify {_ON} nowhere.swx
        $ sealwax verify -r {_ON} sealed tampered.swx
    """,
    "inspect": """
        $ sealwax inspect a.swx
        $ sealwax inspect a.txt
        $ sealwax inspect damaged.swx
        $ sealwax inspect nowhere.swx
        $ sealwax inspect in
        $ sealwax inspect -r in
    """,
    "rewrap": f"""
        $ sealwax rewrap {_ON} {_TO} a.swx
        $ sealwax rewrap {_ON} {_TO} a.swx
        $ sealwax rewrap {_ON} --to alias/nothing b.swx
        $ sealwax rewrap {_ON} --to alias/off b.swx
        $ sealwax rewrap -k alias/demo -c purpose=other {_TO} b.swx
        $ AWS_PROFILE=carol sealwax rewrap {_ON} {_TO} b.swx
        $ sealwax rewrap {_ON} b.swx
        $ sealwax rewrap -r {_ON} {_TO} sealed
    """,
    "migrate": f"""
        % sealwax encrypt -q --as esdk {_ON} a.txt; sealwax encrypt -q --as esdk -r {_ON} -o messages in
        $ sealwax migrate --dry-run {_ON} {_TO} a.txt.esdk
        $ sealwax migrate {_ON} {_TO} a.txt.esdk
        $ sealwax migrate {_ON} {_TO} a.txt.esdk
        $ sealwax migrate {_ON} {_TO} a.txt
        $ sealwax migrate {_ON} {_TO} nowhere.esdk
        $ sealwax migrate -k alias/demo -c purpose=other {_TO} --into other a.txt.esdk
        $ sealwax migrate -k alias/demo2 -c purpose=backup {_TO} --into other a.txt.esdk
        $ AWS_PROFILE=carol sealwax migrate {_ON} {_TO} --into other a.txt.esdk
        $ sealwax migrate {_ON} a.txt.esdk
        $ sealwax migrate {_ON} {_TO} --into other --remove a.txt.esdk
        $ sealwax migrate -r {_ON} {_TO} --into moved messages
        $ sealwax migrate {_ON} {_TO} --remove a.txt.esdk
        $ sealwax migrate {_ON} {_TO} --remove a.txt.esdk
    """,
    "reencrypt": f"""
        $ sealwax reencrypt {_ON} {_TO} a.swx
        $ sealwax reencrypt {_ON} {_TO} a.swx
        $ sealwax reencrypt {_ON} --to alias/off b.swx
        $ sealwax reencrypt {_ON} {_TO} tampered.swx
        $ sealwax reencrypt -k alias/demo -c purpose=other {_TO} b.swx
        $ sealwax reencrypt {_ON} {_TO} nowhere.swx
        $ AWS_PROFILE=carol sealwax reencrypt {_ON} {_TO} b.swx
    """,
    "fleet": f"""
        $ {_PLAN} -c purpose=backup -o rotation.plan sealed
        $ {_PLAN} -c purpose=backup -o rotation.plan sealed
        $ {_PLAN} -c purpose=other -o other.plan sealed
        $ {_PLAN} -c purpose=backup -o empty.plan in
        $ {_PLAN} -c purpose=backup -o gone.plan nowhere
        $ sealwax fleet plan --from alias/demo --to alias/nothing -c purpose=backup -o bad.plan sealed
        $ {_PLAN} --accept-stored-context -o keys.plan sql+postgresql+psycopg://app:secret@db.example.com/shop
        $ {_PLAN} --accept-stored-context -o keys.plan sql+sqlite:///nowhere.db
        $ {_RUN}
        $ AWS_PROFILE=carol {_RUN} --apply
        $ {_RUN} --apply
        $ {_RUN} --apply
        $ sealwax fleet run nowhere.plan
        $ sealwax fleet run a.txt
        $ sealwax fleet status rotation.plan
        $ sealwax fleet verify rotation.plan
        % rm sealed/b.swx; cp tampered.swx sealed/c.swx
        $ sealwax fleet verify rotation.plan
    """,
    "records": f"""
        $ sealwax records list {_STORE}
        $ sealwax records create-table {_STORE}
        $ sealwax records ensure {_STORE} -k alias/demo -c app=shop -c tenant=acme
        $ sealwax records ensure {_STORE} -k alias/off -c app=shop -c tenant=new
        $ AWS_PROFILE=carol sealwax records ensure {_STORE} -k alias/demo -c app=shop -c tenant=acme
        $ sealwax records roll {_STORE} -k alias/demo -c app=shop
        $ sealwax records roll {_STORE} -k alias/demo -c app=shop -c tenant=acme
        $ sealwax records retire 2 {_STORE} -c app=shop -c tenant=acme
        $ sealwax records retire 1 {_STORE} -c app=shop -c tenant=acme
        $ sealwax records list {_STORE}
        $ sealwax records list --store postgresql://shop:secret@db.example.com/shop
        $ sealwax records list --store postgresql+psycopg://localhost:1/shop
        $ sealwax records explain {_STORE} plaintext
        $ sealwax records explain {_STORE} c1{"00" * 60}
        $ sealwax records shred {_STORE} -c app=shop -c tenant=acme --confirm tenant=acme
        $ sealwax records shred {_STORE} -c app=shop -c tenant=acme --confirm app=shop,tenant=acme
        $ sealwax records ensure {_STORE} -k alias/demo -c app=shop -c tenant=acme
        $ sealwax records repair {_STORE} --from sqlite:///none.db
        $ sealwax records stale {_SHOP} -c app=shop
        $ sealwax records verify {_SHOP} -k alias/demo -c app=shop
        $ sealwax records reseal {_SHOP} -k alias/demo -c app=shop --settle 1s
        $ sealwax records stale {_SHOP}
    """,
    "prove": """
        $ sealwax prove -k alias/demo -c purpose=backup
        $ sealwax prove -k alias/nothing -c purpose=backup
        $ sealwax prove -k alias/off -c purpose=backup
        $ AWS_PROFILE=carol sealwax prove -k alias/demo -c purpose=backup
        $ sealwax prove -k alias/demo
        $ sealwax prove -c purpose=backup
        $ sealwax prove -k alias/demo -c purpose=backup --denied-profile nobody
    """,
    "rehearse": """
        $ sealwax rehearse --region eu-west-1 --region us-east-1
        $ sealwax rehearse --region eu-west-1
        $ sealwax rehearse --region nowhere --region us-east-1
        $ sealwax rehearse --region eu-west-1 --region cn-north-1
        $ sealwax rehearse --region eu-west-1 --region us-east-1 --apply --clean-up
        $ sealwax rehearse --region eu-west-1 --region us-east-1 --apply --profile nobody
        $ sealwax rehearse --region eu-west-1 --region us-east-1 --clean-up --profile nobody
    """,
    "audit": """
        $ sealwax audit --all
        $ sealwax audit
        $ sealwax audit -q --all --fail-on info --region us-east-1
        $ sealwax audit --all --fail-on terrible
        $ sealwax audit -k alias/nothing
        $ sealwax audit --facts nowhere.json
        $ AWS_PROFILE=carol sealwax audit --all
    """,
    "keys": """
        $ sealwax keys list
        $ AWS_PROFILE=carol sealwax keys list
        $ sealwax keys rotations alias/demo
        $ sealwax keys rotations alias/nothing
        $ sealwax keys rotate alias/demo --every 90
        $ sealwax keys rotate alias/demo --every 90 --apply
        $ sealwax keys rotate alias/off --now
        $ sealwax keys retire alias/off
        $ sealwax keys retire alias/demo --scan sealed
        $ AWS_PROFILE=carol sealwax keys retire alias/demo --scan sealed
    """,
    "policy": """
        $ sealwax policy iam decrypt -k arn:aws:kms:eu-west-1:111122223333:key/demo -c purpose=backup
        $ sealwax policy iam decrypt -k alias/demo -c purpose=backup
        $ sealwax policy iam decrypt -c purpose=backup
        $ sealwax policy iam eat
        $ sealwax policy explain carol kms:Decrypt alias/demo
        $ sealwax policy explain arn:aws:iam::111122223333:user/carol kms:Decrypt alias/nothing
        $ sealwax policy grant -k alias/demo --for eternity
    """,
    "doctor": """
        $ sealwax doctor -k alias/demo
        $ sealwax doctor
        $ sealwax doctor -q -k alias/nothing -k alias/off
        $ AWS_PROFILE=carol sealwax doctor -q -k alias/demo
        $ sealwax doctor -q --lab nowhere
        $ SEALWAX_LAB= AWS_DEFAULT_REGION=us-east-1 sealwax doctor -q -k alias/demo
        $ SEALWAX_LAB= AWS_PROFILE=nobody sealwax doctor -q -k alias/demo
    """,
    "settings": """
        $ sealwax settings show
        % printf 'key = "alias/demo"\\ncontext = { purpose = "backup" }\\n' > sealwax.toml
        $ sealwax settings show
        $ sealwax settings show a.txt
        % printf 'lab = "./lab"\\n' > sealwax.toml
        $ sealwax settings show
        % printf 'kee = "alias/demo"\\n' > sealwax.toml
        $ sealwax settings show
        % printf 'key = \\n' > sealwax.toml
        $ sealwax settings show
        % printf 'key = "alias/demo"\\n' > sealwax.toml; chmod 666 sealwax.toml
        $ sealwax settings show
    """,
    "edit": f"""
        $ EDITOR='sed -i s/crown/royal/' sealwax edit {_ON} a.swx
        $ EDITOR=true sealwax edit {_ON} a.swx
        $ EDITOR=false sealwax edit {_ON} a.swx
        $ EDITOR=rm sealwax edit {_ON} a.swx
        $ EDITOR=no-such-editor sealwax edit {_ON} a.swx
        $ EDITOR=true sealwax edit -k alias/demo -c purpose=other a.swx
        $ EDITOR=true sealwax edit {_ON} a.txt
        $ EDITOR=true sealwax edit {_ON} nowhere.swx
    """,
    "help": """
        $ sealwax help verify
        $ sealwax help 7
        $ sealwax help AccessDeniedError
        $ sealwax help 9
        $ sealwax help nothing
    """,
    "completion": """
        $ sealwax completion fish
        $ sealwax completion
        $ sealwax completion tcsh
        $ sealwax completion -x
    """,
    "lab": """
        $ sealwax lab keys
        $ sealwax lab create-key --alias demo
        $ sealwax lab create-key --alias 'no good'
        $ sealwax lab keys --lab nowhere
        $ sealwax lab principal add carol
        $ sealwax lab fault --region us-east-1 --throttle 2
        $ sealwax lab serve --port 99999
    """,
    "sealwax": """
        $ sealwax
        $ sealwax encyrpt a.txt
        $ sealwax --nothing
        $ SEALWAX_LAB=nowhere sealwax encrypt -k alias/demo -c purpose=backup a.txt
        $ SEALWAX_LAB= sealwax encrypt -k alias/demo -c purpose=backup a.txt
        $ SEALWAX_LAB= AWS_DEFAULT_REGION=us-east-1 sealwax encrypt -k alias/demo -c purpose=backup a.txt
        $ SEALWAX_LAB= AWS_PROFILE=nobody sealwax encrypt -k alias/demo -c purpose=backup a.txt
    """,
}
