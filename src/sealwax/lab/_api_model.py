"""The operations that the lab serves and the bounds of their parameters, as KMS's service model states them.

A test holds this table against botocore's model; the engine itself needs no botocore to run.
"""

from __future__ import annotations

from sealwax.lab._shapes import Blob, Flag, Items, Moment, Number, Pairs, Shape, Structure, Text

_KEY = Text(1, 2048)
_ALIAS = Text(1, 256, r"^[a-zA-Z0-9:/_-]+$")
_PRINCIPAL = Text(1, 256, r"^[\w+=,.@:/-]+$")
_SERVICE = Text(1, 128, r"^([A-Za-z0-9\-]+)\.([A-Za-z0-9\-]+)(\.[A-Za-z0-9\-]+)+$")
_POLICY = Text(1, 131072, r"[\u0009\u000A\u000D\u0020-\u00FF]+")
_POLICY_NAME = Text(1, 128, r"[\w]+")
_REGION = Text(1, 32, r"^([a-z]+-){2,3}\d+$")
_DESCRIPTION = Text(0, 8192)
_TOKENS = Items(Text(1, 8192), 0, 10)
_TOKEN = Text(1, 8192)
_GRANT_ID = Text(1, 128)
_MATERIAL_ID = Text(64, 64, r"^[a-f0-9]+$")
_STORE_ID = Text(1, 64)
_STORE_NAME = Text(1, 256)
_CLUSTER = Text(19, 24, r"cluster-[2-7a-zA-Z]{11,16}")
_CIPHERTEXT = Blob(1, 6144)
_PLAINTEXT = Blob(1, 4096)
_BYTES = Number(1, 1024)
_DATA_KEY = Text(enum=("AES_256", "AES_128"))
_ALGORITHM = Text(enum=("SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"))
_MODIFIERS = Items(Text(enum=("IGNORE_CIPHERTEXT",)))
_PAGE: dict[str, Shape] = {"Limit": Number(1, 1000), "Marker": Text(1, 1024, r"[\u0020-\u00FF]*")}
_TAG_KEY = Text(1, 128)
_TAGS = Items(Structure({"TagKey": _TAG_KEY, "TagValue": Text(0, 256)}, frozenset({"TagKey", "TagValue"})))
_RECIPIENT = Structure(
    {"KeyEncryptionAlgorithm": Text(enum=("RSAES_OAEP_SHA_256",)), "AttestationDocument": Blob(1, 262144)}
)
# Those that the deprecated CustomerMasterKeySpec has a name for.
OLD_SPECS = (
    *("RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1"),
    *("SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2"),
)
_SPECS = (
    *OLD_SPECS,
    *("ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "ECC_NIST_EDWARDS25519", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"),
)
GRANT_OPERATIONS = (
    *("Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"),
    *("Sign", "Verify", "GetPublicKey", "CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair"),
    *("GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac", "DeriveSharedSecret"),
    *("Encapsulate", "Decapsulate"),
)
_XKS: dict[str, Shape] = {
    "XksProxyUriEndpoint": Text(10, 128, r"^https://[a-zA-Z0-9.-]+$"),
    "XksProxyUriPath": Text(10, 128, r"^(/[a-zA-Z0-9\/_-]+/kms/xks/v\d{1,2})$|^(/kms/xks/v\d{1,2})$"),
    "XksProxyVpcEndpointServiceName": Text(
        20, 64, r"^(com|eu)\.amazonaws\.vpce\.([a-z]+-){2,3}\d+\.vpce-svc-[0-9a-z]+$"
    ),
    "XksProxyVpcEndpointServiceOwner": Text(12, 12, r"[0-9]{12}"),
    "XksProxyAuthenticationCredential": Structure(
        {
            "AccessKeyId": Text(20, 30, r"^[A-Z2-7]+$", secret=True),
            "RawSecretAccessKey": Text(43, 64, r"^[a-zA-Z0-9\/+=]+$", secret=True),
        },
        frozenset({"AccessKeyId", "RawSecretAccessKey"}),
    ),
    "XksProxyConnectivity": Text(enum=("PUBLIC_ENDPOINT", "VPC_ENDPOINT_SERVICE")),
}


def _of(required: str = "", /, **members: Shape) -> Structure:
    return Structure(members, frozenset(required.split()))


_GENERATE = {
    "KeyId": _KEY,
    "EncryptionContext": Pairs(),
    "NumberOfBytes": _BYTES,
    "KeySpec": _DATA_KEY,
    "GrantTokens": _TOKENS,
    "DryRun": Flag(),
}

SURFACE: dict[str, Structure] = {
    # keys
    "CreateKey": _of(
        Policy=_POLICY,
        Description=_DESCRIPTION,
        KeyUsage=Text(
            enum=("SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT", "ENCAPSULATE_DECAPSULATE")
        ),
        CustomerMasterKeySpec=Text(enum=OLD_SPECS),
        KeySpec=Text(enum=_SPECS),
        Origin=Text(enum=("AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE")),
        CustomKeyStoreId=_STORE_ID,
        BypassPolicyLockoutSafetyCheck=Flag(),
        Tags=_TAGS,
        MultiRegion=Flag(),
        XksKeyId=Text(1, 128, r"^[a-zA-Z0-9-_.]+$"),
    ),
    "DescribeKey": _of("KeyId", KeyId=_KEY, GrantTokens=_TOKENS),
    "ListKeys": _of(**_PAGE, ResourceOwners=Items(Text(enum=("SELF", "OTHER_ACCOUNTS_VIA_RAM")), 1, 2)),
    "EnableKey": _of("KeyId", KeyId=_KEY),
    "DisableKey": _of("KeyId", KeyId=_KEY),
    "UpdateKeyDescription": _of("KeyId Description", KeyId=_KEY, Description=_DESCRIPTION),
    "ScheduleKeyDeletion": _of("KeyId", KeyId=_KEY, PendingWindowInDays=Number(1, 365)),
    "CancelKeyDeletion": _of("KeyId", KeyId=_KEY),
    "GetKeyLastUsage": _of("KeyId", KeyId=_KEY),
    # aliases
    "CreateAlias": _of("AliasName TargetKeyId", AliasName=_ALIAS, TargetKeyId=_KEY),
    "UpdateAlias": _of("AliasName TargetKeyId", AliasName=_ALIAS, TargetKeyId=_KEY),
    "DeleteAlias": _of("AliasName", AliasName=_ALIAS),
    "ListAliases": _of(**_PAGE, KeyId=_KEY),
    # cryptography
    "GenerateDataKey": _of("KeyId", **_GENERATE, Recipient=_RECIPIENT),
    "GenerateDataKeyWithoutPlaintext": _of("KeyId", **_GENERATE),
    "GenerateRandom": _of(NumberOfBytes=_BYTES, CustomKeyStoreId=_STORE_ID, Recipient=_RECIPIENT),
    "Encrypt": _of(
        "KeyId Plaintext",
        KeyId=_KEY,
        Plaintext=_PLAINTEXT,
        EncryptionContext=Pairs(),
        GrantTokens=_TOKENS,
        EncryptionAlgorithm=_ALGORITHM,
        DryRun=Flag(),
    ),
    "Decrypt": _of(
        CiphertextBlob=_CIPHERTEXT,
        EncryptionContext=Pairs(),
        GrantTokens=_TOKENS,
        KeyId=_KEY,
        EncryptionAlgorithm=_ALGORITHM,
        Recipient=_RECIPIENT,
        DryRun=Flag(),
        DryRunModifiers=_MODIFIERS,
    ),
    "ReEncrypt": _of(
        "DestinationKeyId",
        CiphertextBlob=_CIPHERTEXT,
        SourceEncryptionContext=Pairs(),
        SourceKeyId=_KEY,
        DestinationKeyId=_KEY,
        DestinationEncryptionContext=Pairs(),
        SourceEncryptionAlgorithm=_ALGORITHM,
        DestinationEncryptionAlgorithm=_ALGORITHM,
        GrantTokens=_TOKENS,
        DryRun=Flag(),
        DryRunModifiers=_MODIFIERS,
    ),
    # policies and tags
    "GetKeyPolicy": _of("KeyId", KeyId=_KEY, PolicyName=_POLICY_NAME),
    "PutKeyPolicy": _of(
        "KeyId Policy", KeyId=_KEY, PolicyName=_POLICY_NAME, Policy=_POLICY, BypassPolicyLockoutSafetyCheck=Flag()
    ),
    "ListKeyPolicies": _of("KeyId", KeyId=_KEY, **_PAGE),
    "TagResource": _of("KeyId Tags", KeyId=_KEY, Tags=_TAGS),
    "UntagResource": _of("KeyId TagKeys", KeyId=_KEY, TagKeys=Items(_TAG_KEY)),
    "ListResourceTags": _of("KeyId", KeyId=_KEY, **_PAGE),
    # grants
    "CreateGrant": _of(
        "KeyId Operations",
        KeyId=_KEY,
        GranteePrincipal=_PRINCIPAL,
        RetiringPrincipal=_PRINCIPAL,
        Operations=Items(Text(enum=GRANT_OPERATIONS)),
        Constraints=_of(
            EncryptionContextSubset=Pairs(),
            EncryptionContextEquals=Pairs(),
            SourceArn=Text(20, 512, r"^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$"),
        ),
        GrantTokens=_TOKENS,
        Name=Text(1, 256, r"^[a-zA-Z0-9:/_-]+$"),
        DryRun=Flag(),
        GranteeServicePrincipal=_SERVICE,
        RetiringServicePrincipal=_SERVICE,
    ),
    "ListGrants": _of(
        "KeyId",
        **_PAGE,
        KeyId=_KEY,
        GrantId=_GRANT_ID,
        GranteePrincipal=_PRINCIPAL,
        GranteeServicePrincipal=_SERVICE,
    ),
    "ListRetirableGrants": _of(**_PAGE, RetiringPrincipal=_PRINCIPAL, RetiringServicePrincipal=_SERVICE),
    "RetireGrant": _of(GrantToken=_TOKEN, KeyId=_KEY, GrantId=_GRANT_ID, DryRun=Flag()),
    "RevokeGrant": _of("KeyId GrantId", KeyId=_KEY, GrantId=_GRANT_ID, DryRun=Flag()),
    # rotation
    "EnableKeyRotation": _of("KeyId", KeyId=_KEY, RotationPeriodInDays=Number(90, 2560)),
    "DisableKeyRotation": _of("KeyId", KeyId=_KEY),
    "GetKeyRotationStatus": _of("KeyId", KeyId=_KEY),
    "RotateKeyOnDemand": _of("KeyId", KeyId=_KEY),
    "ListKeyRotations": _of(
        "KeyId", KeyId=_KEY, IncludeKeyMaterial=Text(enum=("ALL_KEY_MATERIAL", "ROTATIONS_ONLY")), **_PAGE
    ),
    # multi-Region keys
    "ReplicateKey": _of(
        "KeyId ReplicaRegion",
        KeyId=_KEY,
        ReplicaRegion=_REGION,
        Policy=_POLICY,
        BypassPolicyLockoutSafetyCheck=Flag(),
        Description=_DESCRIPTION,
        Tags=_TAGS,
    ),
    "UpdatePrimaryRegion": _of("KeyId PrimaryRegion", KeyId=_KEY, PrimaryRegion=_REGION),
    # imported material
    "GetParametersForImport": _of(
        "KeyId WrappingAlgorithm WrappingKeySpec",
        KeyId=_KEY,
        WrappingAlgorithm=Text(
            enum=(
                *("RSAES_PKCS1_V1_5", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"),
                *("RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256", "SM2PKE"),
            )
        ),
        WrappingKeySpec=Text(enum=("RSA_2048", "RSA_3072", "RSA_4096", "SM2")),
    ),
    "ImportKeyMaterial": _of(
        "KeyId ImportToken EncryptedKeyMaterial",
        KeyId=_KEY,
        ImportToken=_CIPHERTEXT,
        EncryptedKeyMaterial=_CIPHERTEXT,
        ValidTo=Moment(),
        ExpirationModel=Text(enum=("KEY_MATERIAL_EXPIRES", "KEY_MATERIAL_DOES_NOT_EXPIRE")),
        ImportType=Text(enum=("NEW_KEY_MATERIAL", "EXISTING_KEY_MATERIAL")),
        KeyMaterialDescription=Text(0, 256, r"^[a-zA-Z0-9:/_\s.-]+$"),
        KeyMaterialId=_MATERIAL_ID,
    ),
    "DeleteImportedKeyMaterial": _of("KeyId", KeyId=_KEY, KeyMaterialId=_MATERIAL_ID),
    # custom key stores
    "CreateCustomKeyStore": _of(
        "CustomKeyStoreName",
        CustomKeyStoreName=_STORE_NAME,
        CloudHsmClusterId=_CLUSTER,
        TrustAnchorCertificate=Text(1, 5000),
        KeyStorePassword=Text(7, 32, secret=True),
        CustomKeyStoreType=Text(enum=("AWS_CLOUDHSM", "EXTERNAL_KEY_STORE")),
        **_XKS,
    ),
    "DescribeCustomKeyStores": _of(CustomKeyStoreId=_STORE_ID, CustomKeyStoreName=_STORE_NAME, **_PAGE),
    "ConnectCustomKeyStore": _of("CustomKeyStoreId", CustomKeyStoreId=_STORE_ID),
    "DisconnectCustomKeyStore": _of("CustomKeyStoreId", CustomKeyStoreId=_STORE_ID),
    "DeleteCustomKeyStore": _of("CustomKeyStoreId", CustomKeyStoreId=_STORE_ID),
}

# Real operations of KMS that the lab does not offer; they answer UnsupportedOperationException, not "unknown".
UNSUPPORTED = frozenset(
    {
        *("Sign", "Verify", "GetPublicKey", "GenerateMac", "VerifyMac", "DeriveSharedSecret"),
        *("GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "Encapsulate", "Decapsulate"),
        "UpdateCustomKeyStore",
    }
)
