"""`manage.py unarchive`: make an archived model again."""

from argparse import ArgumentParser
from typing import Any

from inference.jobs.command import JobCommand


class Command(JobCommand):
    help = f"""\
Make a model again from its archive, bit for bit.

  manage.py unarchive llava:13b
  manage.py unarchive llava-13b-20261125-010203.tar.gz --target llava:again

{JobCommand.__doc__}"""
    measures = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "source", metavar="NAME", help="the model (its newest archive), or an archive's file"
        )
        parser.add_argument("--target", default="", metavar="NAME", help="default: the name that it had")
        parser.add_argument(
            "--delete", action="store_true", help="delete the archive after the model is made"
        )
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Any) -> None:
        self.run("unarchive", options["source"], options["target"], options, delete_after=options["delete"])
