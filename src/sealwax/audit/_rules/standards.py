"""The controls of published standards that the rules name, each with the URL of its text.

Every id was looked up with its requirement: those of AWS and Prowler at their URL; the others, whose texts are behind a
registration or too long to link into, at the URL in the comment beside them.
"""

from __future__ import annotations

from typing import Final

from sealwax.audit._findings import Standard

_HUB: Final = "https://docs.aws.amazon.com/securityhub/latest/userguide/"
_CONFIG: Final = "https://docs.aws.amazon.com/config/latest/developerguide/"
_PROWLER: Final = "https://github.com/prowler-cloud/prowler/tree/master/prowler/providers/aws/services/"


def _hub(control: str, page: str) -> Standard:
    return Standard("AWS Security Hub", control, f"{_HUB}{page}-controls.html#{control.lower().replace('.', '-')}")


def config(rule: str) -> Standard:
    """Return a managed rule of AWS Config."""
    return Standard("AWS Config", rule, f"{_CONFIG}{rule}.html")


def prowler(check: str) -> Standard:
    """Return a check of Prowler."""
    return Standard("Prowler", check, f"{_PROWLER}{check.split('_')[0]}/{check}")


def _cis(number: str, hub: str, page: str) -> Standard:
    # The benchmark is behind a registration. AWS lists its numbers beside its own controls; they are also in
    # github.com/prowler-cloud/prowler, prowler/compliance/aws/cis_5.0_aws.json.
    return Standard("CIS AWS Foundations 5.0.0", number, f"{_HUB}{page}-controls.html#{hub}")


def _pci(number: str) -> Standard:
    # Behind a registration. The numbers are the same in 4.0.1.
    return Standard("PCI DSS 4.0", number, "https://www.pcisecuritystandards.org/document_library/")


def _soc(number: str) -> Standard:
    # Behind a registration. Also in github.com/prowler-cloud/prowler, prowler/compliance/aws/soc2_aws.json.
    return Standard(
        "SOC 2",
        number,
        "https://www.aicpa-cima.com/resources/download/2017-trust-services-criteria-with-revised-points-of-focus-2022",
    )


def _hipaa(paragraph: str) -> Standard:
    # Also in github.com/prowler-cloud/prowler, prowler/compliance/aws/hipaa_aws.json.
    return Standard(
        "HIPAA", f"45 CFR {paragraph}", f"https://www.ecfr.gov/current/title-45/section-{paragraph.split('(')[0]}"
    )


def _csf(number: str) -> Standard:
    # One document. Each subcategory has a page under csf.tools/reference/nist-cybersecurity-framework/v2-0/.
    return Standard("NIST CSF 2.0", number, "https://doi.org/10.6028/NIST.CSWP.29")


def _key_management(section: str) -> Standard:
    return Standard("NIST SP 800-57 Part 1 Rev. 5", section, "https://doi.org/10.6028/NIST.SP.800-57pt1r5")


KMS_1: Final = _hub("KMS.1", "kms")  # IAM customer managed policies: no decryption on all keys
KMS_2: Final = _hub("KMS.2", "kms")  # the same for inline policies
KMS_3: Final = _hub("KMS.3", "kms")  # no unintended deletion
KMS_4: Final = _hub("KMS.4", "kms")  # rotation
KMS_5: Final = _hub("KMS.5", "kms")  # not publicly accessible
CLOUDTRAIL_1: Final = _hub("CloudTrail.1", "cloudtrail")  # a multi-Region trail with reads and writes
CLOUDTRAIL_3: Final = _hub("CloudTrail.3", "cloudtrail")  # at least one trail
CLOUDTRAIL_4: Final = _hub("CloudTrail.4", "cloudtrail")  # log file validation
CLOUDWATCH_7: Final = _hub("CloudWatch.7", "cloudwatch")  # an alarm on disabling and deletion of keys
CIS_3_1: Final = _cis("3.1", "cloudtrail-1", "cloudtrail")  # CloudTrail in all Regions
CIS_3_2: Final = _cis("3.2", "cloudtrail-4", "cloudtrail")  # log file validation
CIS_3_6: Final = _cis("3.6", "kms-4", "kms")  # rotation
PCI_ACCESS: Final = _pci("7.2.2")  # by job, least privilege: withpci.com/requirements/7/7.2/7.2.2
PCI_CUSTODIANS: Final = _pci("3.6.1")  # few custodians: ce.prod.cloudaware.com/frameworks/pci-dss-v4.0/03/06/01
PCI_CRYPTOPERIOD: Final = _pci("3.7.4")  # keys are changed at its end: withpci.com/requirements/3/3.7/3.7.4.html
PCI_RETIRED: Final = _pci("3.7.5")  # keys are retired: ce.prod.cloudaware.com/frameworks/pci-dss-v4.0.1/03/07/05
PCI_LOGS: Final = _pci("10.2.1")  # audit logs are on: withpci.com/requirements/10/10.2/10.2.1
PCI_LOGS_KEPT: Final = _pci("10.3.4")  # changes to them are detected: learn.daydream.ai/requirements/pci-dss-10-3-4
SOC_ACCESS: Final = _soc("CC6.1")  # logical access, including keys
SOC_DUTIES: Final = _soc("CC6.3")  # least privilege, segregation of duties
SOC_MONITORING: Final = _soc("CC7.2")  # anomalies are monitored
HIPAA_ACCESS: Final = _hipaa("164.312(a)(1)")  # access control
HIPAA_ENCRYPTION: Final = _hipaa("164.312(a)(2)(iv)")  # encryption and decryption
HIPAA_AUDIT: Final = _hipaa("164.312(b)")  # audit controls
CSF_AT_REST: Final = _csf("PR.DS-01")  # confidentiality, integrity and availability of data at rest
CSF_IN_USE: Final = _csf("PR.DS-10")  # the same for data in use
CSF_ACCESS: Final = _csf("PR.AA-05")  # least privilege, separation of duties
CSF_LOGS: Final = _csf("PR.PS-04")  # log records are generated
NIST_CRYPTOPERIODS: Final = _key_management("5.3")  # named by PCI DSS 3.7.4

#: The controls about principals that can reach plaintext and should not.
ACCESS: Final = (PCI_ACCESS, SOC_ACCESS, HIPAA_ACCESS, CSF_AT_REST, CSF_ACCESS)
#: The controls about calls that are not logged.
LOGS: Final = (PCI_LOGS, SOC_MONITORING, HIPAA_AUDIT, CSF_LOGS)
