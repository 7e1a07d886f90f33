"""The examples of each verb's help: a comment that says what a command is for, and the command.

Help, the manual pages and docs/reference/cli.md take them from here. A test runs each as it is typed, against a lab
with the keys alias/demo, alias/demo2 and alias/unused, where the files that it names exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

EXAMPLES: Final[Mapping[str, str]] = {
    "encrypt": r"""
# One file; writes a.txt.swx.
sealwax encrypt -k alias/demo -c purpose=backup a.txt
# A folder; each file is bound to its own path.
sealwax encrypt -k alias/demo -c path={relpath} -r -o sealed reports
# A pipe.
tar c reports | sealwax encrypt -k alias/demo -c purpose=backup -o r.swx -
""",
    "decrypt": r"""
# One file; writes b.txt.
sealwax decrypt -k alias/demo -c purpose=backup -o b.txt a.txt.swx
# A folder.
sealwax decrypt -k alias/demo -c purpose=backup -r -o restored backups
# The first ten bytes.
sealwax decrypt -k alias/demo -c purpose=backup --range 0:10 -o head a.txt.swx
""",
    "verify": r"""
# One file.
sealwax verify -k alias/demo -c purpose=backup a.txt.swx
# Every envelope in a folder.
sealwax verify -k alias/demo -c purpose=backup -r backups
# An object in S3.
sealwax verify -k alias/demo -c purpose=backup s3://vault/a.swx
""",
    "inspect": r"""
# What the envelope says: its keys, context and size.
sealwax inspect a.txt.swx
# For a program.
sealwax inspect --json -r backups
# Is it under the wanted key?
sealwax inspect --to alias/demo2 --ask-kms a.txt.swx
""",
    "rewrap": r"""
# One file.
sealwax rewrap -k alias/demo --to alias/demo2 -c purpose=backup a.txt.swx
# A folder; for many files, `sealwax fleet` can be stopped and resumed.
sealwax rewrap -k alias/demo --to alias/demo2 -c purpose=backup -r backups
""",
    "reencrypt": r"""
# A data key may have leaked: replace it, under the same KMS key.
sealwax reencrypt -k alias/demo --to alias/demo -c purpose=backup a.txt.swx
# A folder.
sealwax reencrypt -k alias/demo --to alias/demo2 -c purpose=backup -r backups
""",
    "migrate": r"""
# What an old script encrypted; writes old.bin.swx, and keeps old.bin.
sealwax migrate -k alias/demo --to alias/demo2 -c purpose=backup \
  --allow-legacy envkms01 old.bin
# A folder; run the same command again to resume.
sealwax migrate -k alias/demo --to alias/demo2 -c purpose=backup \
  -r --into moved messages
# Later: remove the originals that were migrated.
sealwax migrate -k alias/demo --to alias/demo2 -c purpose=backup \
  -r --into moved --remove messages
""",
    "fleet": r"""
# Plan, run and verify.
sealwax fleet plan --from alias/demo --to alias/demo2 -c purpose=backup \
  --digest all -o rotation.plan backups
sealwax fleet run rotation.plan --apply
sealwax fleet verify rotation.plan --decrypt 10
""",
    "fleet plan": r"""
# Move what is under demo to demo2.
sealwax fleet plan --from alias/demo --to alias/demo2 -c purpose=backup \
  --digest all -o rotation.plan backups
# Re-wrap what was wrapped more than a year ago.
sealwax fleet plan --from alias/demo --to alias/demo -c purpose=backup \
  --older-than 365d -o yearly.plan backups
""",
    "fleet run": r"""
# What would be done?
sealwax fleet run rotation.plan
# Do it; run the same command again to resume.
sealwax fleet run rotation.plan --apply
# From a scheduler: re-wrap what has become stale, for at most 50 minutes.
sealwax fleet run rotation.plan --stale --apply --max-duration 50m
""",
    "fleet status": r"""
# How far along is it?
sealwax fleet status rotation.plan
# Which objects failed, and why?
sealwax fleet status --list rotation.plan
""",
    "fleet verify": r"""
# Is anything stale, or has a payload changed?
sealwax fleet verify rotation.plan
# Also, do ten of them decrypt?
sealwax fleet verify rotation.plan --decrypt 10
""",
    "records": r"""
# A key store, the first data key of a scope, and what there is.
export SEALWAX_STORE=sqlite:///new.db
sealwax records create-table
sealwax records ensure -k alias/demo -c app=shop -c tenant=acme
sealwax records list
""",
    "records create-table": r"""
# In a file, for a trial.
sealwax records create-table --store sqlite:///new.db
# Tables that exist are left as they are.
sealwax records create-table --store sqlite:///keys.db
""",
    "records list": r"""
# All scopes.
sealwax records list --store sqlite:///keys.db
# Those of one tenant, for a program.
sealwax records list --store sqlite:///keys.db -c tenant=acme --json
""",
    "records ensure": r"""
# Before the first request of a new tenant.
sealwax records ensure --store sqlite:///keys.db -k alias/demo \
  -c app=shop -c tenant=new
# Does KMS unwrap every key of a tenant?
sealwax records ensure --store sqlite:///keys.db -k alias/demo \
  -c app=shop -c tenant=acme
""",
    "records roll": r"""
# A new data key for new records.
sealwax records roll --store sqlite:///keys.db -k alias/demo \
  -c app=shop -c tenant=acme
# From a scheduler.
sealwax records roll -q --store sqlite:///keys.db -k alias/demo \
  -c app=shop -c tenant=acme
""",
    "records retire": r"""
# No record is under the first generation.
sealwax records retire 1 --store sqlite:///keys.db -c app=shop -c tenant=acme
# For a program.
sealwax records retire 1 --json --store sqlite:///keys.db \
  -c app=shop -c tenant=acme
""",
    "records shred": r"""
# What would be destroyed?
sealwax records shred --dry-run --store sqlite:///keys.db \
  -c app=shop -c tenant=acme
# Destroy it. Without --confirm, the scope is asked for.
sealwax records shred --store sqlite:///keys.db -c app=shop -c tenant=acme \
  --confirm app=shop,tenant=acme
""",
    "records reopen": r"""
# A tenant that was shredded comes back.
sealwax records reopen --store sqlite:///keys.db -k alias/demo \
  -c app=shop -c tenant=gone
# Another one, for a program.
sealwax records reopen --json --store sqlite:///keys.db -k alias/demo \
  -c app=shop -c tenant=left
""",
    "records repair": r"""
# Which keys does a backup have that the store has lost?
sealwax records repair --dry-run --store sqlite:///keys.db \
  --from sqlite:///backup.db
# Put them back.
sealwax records repair --store sqlite:///keys.db --from sqlite:///backup.db
""",
    "records remove": r"""
# A row whose key does not unwrap; `sealwax records list` shows its key ID.
sealwax records remove 00ff00ff00ff --store sqlite:///keys.db -k alias/demo
# Only if it is of this tenant.
sealwax records remove 11ff11ff11ff --store sqlite:///keys.db \
  -k alias/demo -c tenant=torn
""",
    "records stale": r"""
# How many records are under which data key? fields.toml says where they are.
sealwax records stale --store sqlite:///keys.db --fields fields.toml \
  --data sqlite:///app.db
# For a program.
sealwax records stale --json --store sqlite:///keys.db --fields fields.toml \
  --data sqlite:///app.db
""",
    "records reseal": r"""
# All records of a scope, while no other program seals.
sealwax records reseal --store sqlite:///keys.db -k alias/demo -c app=shop \
  --fields fields.toml --data sqlite:///app.db --settle 1s
# At most 1000 rows a second; if killed, the same command resumes.
sealwax records reseal --store sqlite:///keys.db -k alias/demo -c app=shop \
  --fields fields.toml --data sqlite:///app.db --settle 1s --rate 1000 \
  --journal reseal.json
# The way out: how many records would become plaintext? --apply does it.
sealwax records reseal --store sqlite:///keys.db -k alias/demo -c app=shop \
  --fields fields.toml --data sqlite:///app.db --settle 1s --to plaintext
""",
    "records verify": r"""
# Open every record, and name the rows whose records do not open.
sealwax records verify --store sqlite:///keys.db -k alias/demo -c app=shop \
  --fields fields.toml --data sqlite:///app.db
# For a program.
sealwax records verify --json --store sqlite:///keys.db -k alias/demo \
  -c app=shop --fields fields.toml --data sqlite:///app.db
""",
    "records index-bits": r"""
# For a table of a million rows.
sealwax records index-bits --rows 1000000
# As JSON.
sealwax records index-bits --rows 1000000 --json
""",
    "records explain": r"""
# A value as psql prints it.
sealwax records explain "$VALUE" --store sqlite:///keys.db
# A value in a file.
sealwax records explain @value --store sqlite:///keys.db
""",
    "prove": r"""
# Evidence about one key.
sealwax prove -k alias/demo -c purpose=backup
# Also test that envelopes can move to another key.
sealwax prove -k alias/demo --to alias/demo2 -c purpose=backup
""",
    "rehearse": r"""
# What a rehearsal would make, what it costs, and the policy it needs.
sealwax rehearse --region eu-west-1 --region us-east-1
# The same as JSON, with the policy in it.
sealwax rehearse --region eu-west-1 --region us-east-1 --json
""",
    "audit": r"""
# Every key of the account, in the Region of your AWS settings.
sealwax audit --all
# One key, in a pipeline: status 3 only for critical findings.
sealwax audit -k alias/demo --fail-on critical
# Collect now, judge later without the network.
sealwax audit --all --save-facts facts.json
""",
    "keys": r"""
# Which keys are there?
sealwax keys list
# Can this key be retired?
sealwax keys retire alias/unused --scan backups
""",
    "keys list": r"""
# In the Region of your AWS settings.
sealwax keys list
# In two Regions.
sealwax keys list --region eu-west-1 --region us-east-1
""",
    "keys rotate": r"""
# New key material every year.
sealwax keys rotate alias/demo --every 365 --apply
# Once, now: first a dry run, then for real.
sealwax keys rotate alias/demo --now
sealwax keys rotate alias/demo --now --apply
""",
    "keys rotations": r"""
# When was it rotated?
sealwax keys rotations alias/demo
# For a program.
sealwax keys rotations --json alias/demo
""",
    "keys retire": r"""
# Is anything in the folder still under the key?
sealwax keys retire alias/unused --scan backups
# If nothing is, disable the key; `aws kms enable-key` undoes that.
sealwax keys retire alias/unused --scan backups --apply
# Once you are sure that nothing needs it, schedule its deletion.
sealwax keys retire alias/unused --scan backups --apply --delete-after 30
""",
    "policy": r"""
# What `sealwax audit` needs.
sealwax policy iam audit
# What a service that only writes needs.
sealwax policy iam encrypt -k alias/demo -c purpose=backup
""",
    "policy key": r"""
# One role administers the key, another encrypts.
sealwax policy key --admin arn:aws:iam::111122223333:role/key-admin \
  --encrypt arn:aws:iam::111122223333:role/writer -c purpose=backup
# As a CloudFormation template.
sealwax policy key --admin arn:aws:iam::111122223333:role/key-admin \
  -c purpose=backup --format cloudformation
# One role seals and opens records of a scope, another moves their data keys.
sealwax policy key --admin arn:aws:iam::111122223333:role/key-admin \
  --records arn:aws:iam::111122223333:role/shop \
  --rotate-records arn:aws:iam::111122223333:role/rotation -c app=shop
""",
    "policy iam": r"""
# For a service that writes and cannot read.
sealwax policy iam encrypt -k alias/demo -c purpose=backup
# For a role that restores backups, as a Terraform resource.
sealwax policy iam decrypt -k alias/demo -c purpose=backup --format terraform
# For an application that seals and opens records of a scope.
sealwax policy iam records -k alias/demo -c app=shop
""",
    "policy grant": r"""
# Print a grant, for `aws kms create-grant`.
sealwax policy grant -k alias/demo -c purpose=backup --operation Decrypt \
  --grantee arn:aws:iam::111122223333:role/restore
# Create one for a second, and retire it.
sealwax policy grant -k alias/demo -c purpose=backup --operation Decrypt \
  --grantee arn:aws:iam::111122223333:role/restore --for 1s
""",
    "policy explain": r"""
# May the role decrypt, according to this key policy?
sealwax policy explain arn:aws:iam::111122223333:role/reader kms:Decrypt \
  alias/demo -c purpose=backup --key-policy key.json
# And for another purpose?
sealwax policy explain arn:aws:iam::111122223333:role/reader kms:Decrypt \
  alias/demo -c purpose=other --key-policy key.json
""",
    "settings show": r"""
# Which settings apply here, and where does each value come from?
sealwax settings show
# Which settings apply to a file, with the rule that matches it?
sealwax settings show reports/q1.txt
""",
    "doctor": r"""
# Is everything set up, and may I use the key?
sealwax doctor -k alias/demo
# The same, with the context that a policy requires.
sealwax doctor -k alias/demo -c purpose=backup
""",
    "edit": r"""
# Open the plaintext in $VISUAL or $EDITOR, and seal it again if it changed.
sealwax edit -k alias/demo -c purpose=backup a.txt.swx
# Trust the context that is stored in the envelope.
sealwax edit -k alias/demo --accept-stored-context a.txt.swx
""",
    "completion": r"""
# bash: for every new shell.
sealwax completion bash > ~/.local/share/bash-completion/completions/sealwax
# zsh: ~/.zfunc must be in $fpath before compinit runs.
sealwax completion zsh > ~/.zfunc/_sealwax
# fish.
sealwax completion fish > ~/.config/fish/completions/sealwax.fish
""",
    "lab": r"""
# Try sealwax without AWS.
export SEALWAX_LAB=./lab
sealwax lab create-key --alias trial
sealwax encrypt -k alias/trial -c purpose=test a.txt
""",
    "lab create-key": r"""
# Create a key, and the lab if it does not exist.
sealwax lab create-key --lab ./lab --alias trial
# In another Region.
sealwax lab create-key --lab ./lab --alias trial --region eu-west-1
""",
    "lab keys": r"""
# The lab's keys, with their states and aliases.
sealwax lab keys
# For a program.
sealwax lab keys --json
""",
    "lab serve": r"""
# For the AWS CLI and other SDKs, until Ctrl-C.
sealwax lab serve --port 4599
# On a free port, which it prints.
sealwax lab serve --port 0
""",
    "lab principal": r"""
# Add a user who may call the lab.
sealwax lab principal add alice --policy alice.json
""",
    "lab principal add": r"""
# A user with an access key; alice.json is an IAM policy.
sealwax lab principal add alice --policy alice.json
# A role.
sealwax lab principal add worker --role --policy alice.json
""",
    "lab fault": r"""
# Throttle a fifth of all Decrypt calls.
sealwax lab fault --region us-east-1 --operation Decrypt --throttle 0.2
# Take a Region down.
sealwax lab fault --region us-east-1 --down
# Back to normal.
sealwax lab fault --region us-east-1 --clear
""",
    "lab trail": r"""
# Every call, and why it was allowed or denied.
sealwax lab trail
# The last call, as CloudTrail records it.
sealwax lab trail --json | tail -n 1
""",
    "help": r"""
# A verb.
sealwax help fleet plan
# An exit status.
sealwax help 7
# An error, by the name that --json prints.
sealwax help AccessDeniedError
""",
}
