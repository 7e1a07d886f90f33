"""An explanation out of saved facts is the one that AWS would have been asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, Final

import pytest

from sealwax.audit import _factsfile
from sealwax.audit._collect import explanation
from sealwax.audit._collect.keys import gather
from sealwax.audit._facts import Facts
from sealwax.audit._from_facts import describe_key, describe_principal
from sealwax.audit._report import Gap
from sealwax.errors import FactsError
from sealwax.policy import Decision
from sealwax.policy._explain import KeyDescription, PrincipalDescription, explain
from tests.audit import accounts
from tests.audit.live import ACCOUNT, REGION, Session, account

IAM: Final = f"arn:aws:iam::{ACCOUNT}"
WHO: Final = (
    f"{IAM}:root",
    f"{IAM}:user/alice",
    f"{IAM}:user/staff/bob",
    f"{IAM}:role/app",
    f"{IAM}:role/deep/path/batch",
    f"arn:aws:sts::{ACCOUNT}:assumed-role/batch/session",
    f"arn:aws:sts::{ACCOUNT}:assumed-role/app/session",
    "logs.us-east-1.amazonaws.com",
)
KEYS: Final = ("alias/plain", "alias/tagged", "alias/family")
ACTIONS: Final = ("Decrypt", "Encrypt", "DescribeKey", "CreateGrant", "RetireGrant")
CONTEXTS: Final[tuple[Mapping[str, str], ...]] = ({}, {"purpose": "backup"}, {"purpose": "blue"})


def _policy(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow"} | dict(one) for one in statements]})


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with account(tmp_path_factory.mktemp("lab")) as (lab, url):
        session = Session(lab, url)
        _people(session.client("iam"))
        _keys(session)
        yield session


def _people(iam: Any) -> None:
    by_tag = {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}
    document = _policy({"Action": "kms:*", "Resource": "*", "Condition": by_tag})
    managed = iam.create_policy(PolicyName="team", PolicyDocument=document)["Policy"]["Arn"]
    iam.create_user(UserName="alice", Tags=[{"Key": "team", "Value": "blue"}])
    iam.attach_user_policy(UserName="alice", PolicyArn=managed)
    own = iam.create_user(UserName="bob", Path="/staff/")["User"]["UserId"]
    by_id = {"StringEquals": {"aws:userid": own}}
    iam.create_group(GroupName="readers")
    iam.put_group_policy(
        GroupName="readers",
        PolicyName="decrypt",
        PolicyDocument=_policy({"Action": "kms:Decrypt", "Resource": "*", "Condition": by_id}),
    )
    for user in ("alice", "bob"):
        iam.add_user_to_group(GroupName="readers", UserName=user)
    trust = _policy({"Action": "sts:AssumeRole", "Principal": "*"})
    iam.create_role(RoleName="app", AssumeRolePolicyDocument=trust)
    iam.create_role(RoleName="batch", Path="/deep/path/", AssumeRolePolicyDocument=trust)
    by_alias = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/tagged"}}
    by_kind = {"Bool": {"kms:MultiRegion": "true"}, "StringEquals": {"kms:MultiRegionKeyType": "PRIMARY"}}
    backup = {"StringEquals": {"kms:EncryptionContext:purpose": "backup"}}
    inline = _policy(
        {"Action": "kms:Decrypt", "Resource": "*", "Condition": by_alias},
        {"Action": "kms:DescribeKey", "Resource": "*", "Condition": by_kind},
        {"Action": "kms:Encrypt", "Resource": "*", "Condition": backup},
    )
    iam.put_role_policy(RoleName="batch", PolicyName="some", PolicyDocument=inline)


def _keys(session: Session) -> None:
    kms = session.client("kms")
    root = {"Principal": {"AWS": f"{IAM}:root"}, "Action": "kms:*", "Resource": "*"}
    in_blue = {"StringEquals": {"kms:EncryptionContext:purpose": "${aws:PrincipalTag/team}"}}
    named = [
        {"Principal": {"AWS": f"{IAM}:role/app"}, "Action": "kms:Decrypt", "Resource": "*", "Condition": in_blue},
        {"Principal": {"AWS": f"{IAM}:user/alice"}, "Action": "kms:Decrypt", "Resource": "*", "Condition": in_blue},
        {"Principal": {"Service": "logs.us-east-1.amazonaws.com"}, "Action": "kms:Encrypt", "Resource": "*"},
    ]
    plain = kms.create_key(Policy=_policy(root, *named))["KeyMetadata"]["Arn"]
    tagged = kms.create_key(Policy=_policy(root), Tags=[{"TagKey": "team", "TagValue": "blue"}])["KeyMetadata"]["Arn"]
    family = kms.create_key(Policy=_policy(root), MultiRegion=True)["KeyMetadata"]["Arn"]
    for alias, arn in zip(KEYS, (plain, tagged, family), strict=True):
        kms.create_alias(AliasName=alias, TargetKeyId=arn)
    kms.create_grant(
        KeyId=plain,
        GranteePrincipal=f"{IAM}:role/app",
        Operations=["Encrypt", "CreateGrant"],
        Constraints={"EncryptionContextSubset": {"purpose": "backup"}},
        RetiringPrincipal=f"{IAM}:user/alice",
    )


@pytest.fixture(scope="module")
def facts(session: Session) -> Facts:
    return _factsfile.load(_factsfile.dump(gather(session, [REGION])), "facts.json")


def _explained(
    key: KeyDescription, seen: PrincipalDescription, action: str, context: Mapping[str, str], at: Facts
) -> Decision:
    grant = key.grants[0].id if action == "RetireGrant" and key.grants else None
    return explain(
        seen.who,
        action,
        key,
        identity_policies=seen.policies,
        time=at.time,
        encryption_context=context,
        grant_id=grant,
    )


def test_saved_facts_answer_as_the_account_does(session: Session, facts: Facts) -> None:
    people = [(explanation.read_principal(session, arn), describe_principal(facts, arn)) for arn in WHO]
    keys = [(explanation.read_key(session, key), describe_key(facts, key)) for key in KEYS]
    answers = []
    for (live, saved), (live_key, saved_key), action, context in product(people, keys, ACTIONS, CONTEXTS):
        expected = _explained(live_key, live, action, context, facts)
        found = _explained(saved_key, saved, action, context, facts)
        assert (found.allowed, found.explicit_deny, found.reason) == (
            expected.allowed,
            expected.explicit_deny,
            expected.reason,
        )
        answers.append(found.allowed)
    assert len(answers) == len(WHO) * len(KEYS) * len(ACTIONS) * len(CONTEXTS) == 360
    assert (answers.count(True), answers.count(False)) == (87, 273)


def test_every_name_of_a_key_is_known(facts: Facts) -> None:
    arn = describe_key(facts, "alias/plain").arn
    for name in (arn, arn.rpartition("/")[2], "alias/plain", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/plain"):
        assert describe_key(facts, name).arn == arn
    for name in ("alias/none", "plain", f"arn:aws:kms:eu-west-1:{ACCOUNT}:alias/plain", arn.replace("east", "west")):
        with pytest.raises(FactsError, match="do not include the key"):
            describe_key(facts, name)


def test_a_name_that_two_regions_have_is_not_guessed() -> None:
    both = accounts.family()
    id_ = both.keys[0].id
    with pytest.raises(FactsError, match="exists in eu-west-1, us-east-1; name its Region, or give its ARN"):
        describe_key(both, id_)
    assert describe_key(both, id_, "us-east-1").arn == both.keys[1].arn
    with pytest.raises(FactsError, match=r"do not include the key .* in eu-west-3"):
        describe_key(both, id_, "eu-west-3")


@pytest.mark.parametrize(
    ("member", "action", "what"),
    [
        ("policy", "kms:GetKeyPolicy", "key policy"),
        ("grants", "kms:ListGrants", "grants"),
        ("tags", "kms:ListResourceTags", "tags"),
    ],
)
def test_what_a_key_was_not_asked_for_is_no_answer(member: str, action: str, what: str) -> None:
    missed = Gap(action, accounts.arn(), accounts.REGION, "denied on purpose")
    changes: dict[str, Any] = {member: None}
    facts = accounts.clean(accounts.key(**changes), gaps=(missed,))
    with pytest.raises(FactsError, match=f"do not include the {what} of .*: denied on purpose"):
        describe_key(facts, "alias/backup")


def test_what_an_account_was_not_asked_for_is_no_answer() -> None:
    missed = Gap("kms:ListAliases", "*", accounts.REGION, "denied on purpose")
    facts = accounts.clean(aliases=None, expected_aliases={}, gaps=(missed,))
    with pytest.raises(FactsError, match=r"do not include the aliases of .*: denied on purpose"):
        describe_key(facts, accounts.arn())
    with pytest.raises(FactsError, match="do not include the key"):
        describe_key(facts, "alias/backup")
    missed = Gap("iam:GetAccountAuthorizationDetails", "*", "", "denied on purpose")
    facts = replace(facts, principals=None, policies=None, gaps=(missed,))
    with pytest.raises(FactsError, match="users and roles; give its identity policies: denied on purpose"):
        describe_principal(facts, accounts.APP)


def test_a_principal_that_is_not_known_whole_is_no_answer() -> None:
    missed = Gap("iam:GetAccountAuthorizationDetails", accounts.APP, "", "one policy is not there")
    facts = accounts.clean(gaps=(missed,))
    with pytest.raises(FactsError, match=r"not include all policies of .*role/App.*: one policy is not there"):
        describe_principal(facts, accounts.APP)
    assert describe_principal(facts, accounts.ADMIN).policies == ()
    for stranger in (accounts.role("Nobody"), accounts.role("App", accounts.FOREIGN)):
        with pytest.raises(FactsError, match=f"of account {accounts.OWN} do not include '{stranger}'"):
            describe_principal(facts, stranger)
    with pytest.raises(FactsError, match="are in its session"):
        describe_principal(facts, f"arn:aws:sts::{accounts.OWN}:federated-user/bob")


class _Edited(Session):
    """IAM answers as ever, but for what moto does not do and for what is left out."""

    def client(self, service_name: Any, **options: Any) -> Any:
        client = super().client(service_name, **options)
        client.meta.events.register("after-call.iam.GetAccountAuthorizationDetails", self._edit)
        return client

    @staticmethod
    def _edit(parsed: Any, **_: Any) -> None:
        parsed["Policies"].clear()
        parsed["UserDetailList"][1]["PermissionsBoundary"] = {
            "PermissionsBoundaryType": "Policy",
            "PermissionsBoundaryArn": f"{IAM}:policy/edge",
        }


def test_a_policy_that_iam_leaves_out_is_missed_by_its_owner(session: Session) -> None:
    facts = gather(_Edited(session.lab, session.url), [REGION])
    missed = [one for one in facts.gaps if one.what.startswith("iam:")]
    assert [(one.resource, one.why) for one in missed] == [
        (f"{IAM}:user/alice", f"the answer lacks its policy {IAM}:policy/team")
    ]
    with pytest.raises(FactsError, match="policy/team"):
        describe_principal(facts, f"{IAM}:user/alice")
    bob = describe_principal(facts, f"{IAM}:user/staff/bob")
    assert [one.name for one in bob.policies] == ["identity policy 'decrypt'"]
    assert bob.boundary == f"{IAM}:policy/edge"
