"""Rows about conditions on the encryption context."""

from __future__ import annotations

from typing import Final

from tests.policy.rows import (
    CONSTRAINTS,
    KMS_KEYS,
    MANY_VALUES,
    TO_ALICE,
    allow,
    case,
    deny,
    when,
)

_APP: Final = {"StringEquals": {"kms:EncryptionContext:AppName": "ExampleApp"}}
_ONLY_APP: Final = {**_APP, "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["AppName"]}}
CONTEXTS: Final = [
    when("context pair present", KMS_KEYS, True, _APP, pairs={"AppName": "ExampleApp"}),
    when("context absent", KMS_KEYS, False, _APP),
    when("context with another value", KMS_KEYS, False, _APP, pairs={"AppName": "Other"}),
    when("context value in another case", KMS_KEYS, False, _APP, pairs={"AppName": "exampleapp"}),
    when(
        "context value in another case, ignored",
        KMS_KEYS,
        True,
        {"StringEqualsIgnoreCase": {"kms:EncryptionContext:AppName": "ExampleApp"}},
        pairs={"AppName": "exampleapp"},
    ),
    when("context key in another case is the same key", KMS_KEYS, True, _APP, pairs={"APPNAME": "ExampleApp"}),
    when("context with extra pairs", KMS_KEYS, True, _APP, pairs={"AppName": "ExampleApp", "a": "b"}),
    when("context with extra pairs forbidden", KMS_KEYS, False, _ONLY_APP, pairs={"AppName": "ExampleApp", "a": "b"}),
    when("context without extra pairs", KMS_KEYS, True, _ONLY_APP, pairs={"AppName": "ExampleApp"}),
    when(
        "EncryptionContextKeys compares with case",
        KMS_KEYS,
        False,
        {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "AppName"}},
        pairs={"appname": "x"},
    ),
    when(
        "EncryptionContextKeys, any of them",
        KMS_KEYS,
        True,
        {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "AppName"}},
        pairs={"Project": "x", "AppName": "y"},
    ),
    when(
        "EncryptionContextKeys, any of none",
        KMS_KEYS,
        False,
        {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "AppName"}},
    ),
    when(
        "EncryptionContextKeys, all of none",
        KMS_KEYS,
        True,
        {"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": "AppName"}},
    ),
    when(
        "a context is required, there is one",
        KMS_KEYS,
        True,
        {"Null": {"kms:EncryptionContextKeys": False}},
        pairs={"a": "b"},
    ),
    when("a context is required, there is none", KMS_KEYS, False, {"Null": {"kms:EncryptionContextKeys": False}}),
    when(
        "two pairs required, both there",
        KMS_KEYS,
        True,
        {"StringEquals": {"kms:EncryptionContext:a": "1", "kms:EncryptionContext:b": "2"}},
        pairs={"a": "1", "b": "2"},
    ),
    when(
        "two pairs required, one there",
        MANY_VALUES,
        False,
        {"StringEquals": {"kms:EncryptionContext:a": "1", "kms:EncryptionContext:b": "2"}},
        pairs={"a": "1"},
    ),
    when(
        "two operators, one fails",
        MANY_VALUES,
        False,
        {**_APP, "Bool": {"aws:SecureTransport": "false"}},
        pairs={"AppName": "ExampleApp"},
    ),
    when(
        "one of two values",
        MANY_VALUES,
        True,
        {"StringEquals": {"kms:EncryptionContext:a": ["1", "2"]}},
        pairs={"a": "2"},
    ),
    when(
        "negated, one of two values",
        MANY_VALUES,
        False,
        {"StringNotEquals": {"kms:EncryptionContext:a": ["1", "2"]}},
        pairs={"a": "2"},
    ),
    when(
        "negated, none of two values",
        MANY_VALUES,
        True,
        {"StringNotEquals": {"kms:EncryptionContext:a": ["1", "2"]}},
        pairs={"a": "3"},
    ),
    when(
        "pairs that differ only in case must all fit to allow",
        CONSTRAINTS,
        False,
        {"StringEquals": {"kms:EncryptionContext:a": "1"}},
        pairs={"A": "2", "a": "1"},
    ),
    case(
        "of pairs that differ only in case one is enough to deny",
        CONSTRAINTS,
        "explicit deny",
        [*TO_ALICE, deny("kms:*", "*", Condition={"StringEquals": {"kms:EncryptionContext:a": "2"}})],
        pairs={"a": "2", "A": "1"},
    ),
    when(
        "ForAllValues with a context pair is refused",
        KMS_KEYS,
        None,
        {"ForAllValues:StringEquals": {"kms:EncryptionContext:a": "1"}},
    ),
    when(
        "a key of many values without a set operator is refused",
        KMS_KEYS,
        None,
        {"StringEquals": {"kms:EncryptionContextKeys": "a"}},
    ),
    case(
        "context condition in an identity policy, met",
        KMS_KEYS,
        "allow",
        identity=[allow("kms:Decrypt", Condition=_APP)],
        pairs={"AppName": "ExampleApp"},
    ),
    case(
        "context condition in an identity policy, not met",
        KMS_KEYS,
        "deny",
        identity=[allow("kms:Decrypt", Condition=_APP)],
        pairs={"AppName": "x"},
    ),
]
