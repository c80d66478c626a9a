"""`manage.py quality`: what one model loses against another."""

from argparse import ArgumentParser
from typing import Any

from inference.jobs.command import JobCommand


class Command(JobCommand):
    help = f"""\
Measure a model against the one it comes from, or any other of the same vocabulary: divergence token by token (KL,
same top token), answers on labelled prompts, load time and speed in turns.

  manage.py quality llama3.1:8b-instruct-fp16 llama3.1:8b-instruct-q4_K_M

{JobCommand.__doc__}"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", metavar="REFERENCE")
        parser.add_argument("target", metavar="MODEL")
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Any) -> None:
        self.run("measure", options["source"], options["target"], options)
