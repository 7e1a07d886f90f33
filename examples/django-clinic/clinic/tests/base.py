"""Tests with a KMS and a key store of their own, without AWS."""

import tempfile

from django.contrib.auth.models import User
from django.test import TestCase
from sealwax import KmsKeyring
from sealwax.django import get_records
from sealwax.lab import Lab
from sealwax.records import MemoryKeys, Records
from sealwax.records.testing import override_records

from clinic.models import Clinic, Member


class ClinicTestCase(TestCase):
    def setUp(self) -> None:
        lab = self.enterContext(Lab(self.enterContext(tempfile.TemporaryDirectory())))
        keyring = KmsKeyring(lab.create_key()["Arn"], session=lab.session())
        mine = self.enterContext(Records(keyring, MemoryKeys(), scope={"env": "test"}))
        self.enterContext(override_records(get_records(), mine))
        self.north = Clinic.objects.create(slug="north")
        self.south = Clinic.objects.create(slug="south")

    def sign_in(self, clinic: Clinic) -> None:
        user = User.objects.create_superuser(f"nurse of {clinic}")
        Member.objects.create(user=user, clinic=clinic)
        self.client.force_login(user)
