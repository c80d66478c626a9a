"""`restore` is the word for backups: the job that makes an archived model again is called `unarchive`, earlier ones too."""

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def to_unarchive(apps: Apps, _: BaseDatabaseSchemaEditor) -> None:
    apps.get_model('inference', 'ModelJob').objects.filter(kind='restore').update(kind='unarchive')


def to_restore(apps: Apps, _: BaseDatabaseSchemaEditor) -> None:
    apps.get_model('inference', 'ModelJob').objects.filter(kind='unarchive').update(kind='restore')


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0010_distillation'),
    ]

    operations = [
        migrations.AlterField(
            model_name='modeljob',
            name='kind',
            field=models.CharField(choices=[('quantize', 'Quantize'), ('prune', 'Prune'), ('distill', 'Distil'), ('measure', 'Measure'), ('archive', 'Archive'), ('unarchive', 'Unarchive')], max_length=12),
        ),
        migrations.RunPython(to_unarchive, to_restore),
    ]
