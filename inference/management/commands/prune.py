"""`manage.py prune`: drop the layers that a model can do without, and measure what that costs."""

from argparse import ArgumentParser
from typing import Any

from inference.jobs.command import JobCommand


class Command(JobCommand):
    help = f"""\
Drop the least influential layers of a model by measured loss, and measure the variant against its source.

  manage.py prune aicleaner-sample --layers 1
  manage.py prune llama3.1:8b --max-loss 0.05 --target llama3.1:short --json

The source may have any type, quantized ones too: what stays is copied byte for byte. It is never changed.
Each layer that is left is tried for each one dropped, a file as large as the model each time.

{JobCommand.__doc__}"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", metavar="MODEL")
        parser.add_argument("--layers", type=int, metavar="N", help="how many go")
        parser.add_argument(
            "--max-loss",
            type=float,
            metavar="KL",
            help="nats per token: as many layers go as keep to it, or as --layers says if those are fewer",
        )
        parser.add_argument(
            "--target", default="", metavar="NAME", help="default: the model's name with pruned-N as its tag"
        )
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Any) -> None:
        self.run(
            "prune",
            options["source"],
            options["target"],
            options,
            layers=options["layers"],
            max_loss=options["max_loss"],
        )
