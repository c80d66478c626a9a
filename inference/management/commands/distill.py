"""`manage.py distill`: train a student with fewer layers on its teacher's distributions, and measure what that is worth."""

from argparse import ArgumentParser
from typing import Any, get_args

from django.core.management import CommandError
from pydantic import ValidationError

from inference.distillation.settings import Distillation
from inference.jobs.command import JobCommand


class Command(JobCommand):
    help = f"""\
Train a student with fewer layers on the distributions of its teacher, beside a control that is trained on the answers
alone, and measure both on prompts that were not trained on.

  manage.py distill aicleaner-sample --layers 3 --steps 200
  manage.py distill aicleaner-sample short --layers 4 --temperature 2 --alpha 0.9 --prompts household --json

Needs PyTorch: pip install -r requirements-train.txt. The teacher is a Llama-like model whose file lies on this machine,
of any type, and is never changed; the student becomes a new model of F16. Ctrl-C keeps what was trained: the same
command goes on from there.

{JobCommand.__doc__}"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", metavar="SOURCE")
        parser.add_argument(
            "target", nargs="?", default="", metavar="TARGET", help="default: distilled-N as the source's tag"
        )
        for name, field in Distillation.model_fields.items():
            choices, number = get_args(field.annotation), int if field.annotation is int else float
            default = "" if field.is_required() else f" ({field.default})"
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                type=str if choices else number,
                choices=choices or None,
                required=field.is_required(),
                default=None if field.is_required() else field.default,
                metavar="|".join(choices) if choices else "N",
                help=f"{field.description}{default}",
            )
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Any) -> None:
        try:
            wanted = Distillation(**{name: options[name] for name in Distillation.model_fields})
        except ValidationError as error:
            first = error.errors()[0]
            raise CommandError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from error
        self.run("distill", options["source"], options["target"], options, distillation=wanted)
