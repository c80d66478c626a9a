"""The twelve shipped profiles, from tuning/predefined.py."""

from django.db import migrations
from django.utils import timezone

from tuning.fields import FIELDS
from tuning.predefined import PREDEFINED


def create(apps, schema_editor):
    Profile, ProfileVersion = apps.get_model("tuning", "Profile"), apps.get_model("tuning", "ProfileVersion")
    for each in PREDEFINED:
        about = {
            "description": each.description,
            "category": each.category,
            "target_hardware": each.target_hardware,
            "target_use": each.target_use,
            "tags": list(each.tags),
        }
        profile = Profile.objects.create(name=each.name, predefined=True, version=1, **about, **each.values)
        values = {field.name: each.values.get(field.name) for field in FIELDS}
        ProfileVersion.objects.create(
            profile=profile,
            number=1,
            values={**about, "parent": None, **values},
            at=timezone.now(),
            note="shipped",
        )


def remove(apps, schema_editor):
    apps.get_model("tuning", "Profile").objects.filter(predefined=True).delete()


class Migration(migrations.Migration):
    dependencies = [("tuning", "0001_profiles")]
    operations = [migrations.RunPython(create, remove)]
