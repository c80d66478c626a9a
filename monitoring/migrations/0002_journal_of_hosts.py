"""The journal's key becomes (host, second), so that several hosts share one database."""

import numpy as np
from django.db import migrations, models


def copy_rows(apps, schema_editor):
    """The minutes that are in no chunk yet come along; their host is that of their series."""
    hosts = dict(apps.get_model("monitoring", "Series").objects.values_list("id", "host"))
    Journal = apps.get_model("monitoring", "Journal")
    rows = []
    for row in apps.get_model("monitoring", "OldJournal").objects.order_by("at"):
        data = bytes(row.data)
        ids = np.frombuffer(data, np.uint32, len(data) // 12)
        host = next((hosts[int(each)] for each in ids if int(each) in hosts), None)
        if host is not None:
            rows.append(Journal(host=host, at=row.at, data=data))
    Journal.objects.bulk_create(rows, batch_size=200)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0001_series_store")]

    operations = [
        migrations.RenameModel("Journal", "OldJournal"),
        migrations.CreateModel(
            name="Journal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("host", models.CharField(max_length=100)),
                ("at", models.BigIntegerField()),
                ("data", models.BinaryField()),
            ],
            options={
                "verbose_name": "journal row",
                "constraints": [models.UniqueConstraint(fields=("host", "at"), name="journal_of_host")],
            },
        ),
        migrations.RunPython(copy_rows, migrations.RunPython.noop),
        migrations.DeleteModel("OldJournal"),
    ]
