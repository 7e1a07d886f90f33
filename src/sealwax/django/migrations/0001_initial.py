from django.db import migrations

from sealwax.django._operations import CreateKeyTables


class Migration(migrations.Migration):
    initial = True
    dependencies = []  # noqa: RUF012
    operations = [CreateKeyTables()]  # noqa: RUF012
