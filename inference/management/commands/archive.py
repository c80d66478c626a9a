"""`manage.py archive`: pack a model away."""

from argparse import ArgumentParser
from typing import Any

from inference.jobs.command import JobCommand


class Command(JobCommand):
    help = f"""\
Compress a model's file into DATA_DIR/archive, with all that is needed to make it again, and read it back whole.
Quantized weights hardly compress: the ratio that was reached is printed.

  manage.py archive llava:13b --delete

{JobCommand.__doc__}"""
    measures = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", metavar="MODEL")
        parser.add_argument(
            "--delete", action="store_true", help="delete the model after the archive is verified"
        )
        parser.add_argument(
            "--packing",
            choices=["gzip", "zstd"],
            default="gzip",
            help="zstd takes a fraction of gzip's time (%(default)s)",
        )
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Any) -> None:
        more = {"delete_after": options["delete"], "packing": options["packing"]}
        self.run("archive", options["source"], "", options, **more)
