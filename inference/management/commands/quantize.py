"""`manage.py quantize`: make a smaller form of a model, and measure what that costs."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any, get_args

from inference.gguf_tools.mixes import FILE_TYPES, NEED_IMPORTANCE
from inference.jobs.command import JobCommand
from inference.work.plan import Maker


class Command(JobCommand):
    help = f"""\
Make a quantized variant of a model and measure it against its source: size, load time, speed, quality.

  manage.py quantize aicleaner-sample q4_K_M
  manage.py quantize aicleaner-sample dynamic --budget 30%%
  manage.py quantize aicleaner-sample iq2_s --importance collect
  manage.py quantize llama3.1:8b-instruct-fp16 iq4_xs --target llama3.1:small --n-scored 0 --json

Types: dynamic (one for each tensor, by measured sensitivity), {", ".join(FILE_TYPES)}.
With --importance collect only: {", ".join(NEED_IMPORTANCE)}.
The source has to be F32, F16 or BF16. It is never changed.

{JobCommand.__doc__}"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", metavar="MODEL")
        parser.add_argument("level", metavar="TYPE")
        parser.add_argument(
            "--target", default="", metavar="NAME", help="default: the model's name with the type as its tag"
        )
        parser.add_argument(
            "--maker",
            choices=get_args(Maker),
            default="auto",
            help="who makes it: the engine's create, our own writer, llama-quantize (default: the engine where it can)",
        )
        parser.add_argument(
            "--budget",
            default="q4_K_M",
            metavar="SIZE",
            help="of type dynamic: a type (as large as that), 1500MB, 40%% (default: %(default)s)",
        )
        parser.add_argument(
            "--max-loss",
            type=float,
            metavar="KL",
            help="of type dynamic: the smallest file that keeps to it, instead",
        )
        parser.add_argument(
            "--importance",
            default="",
            metavar="FILE|collect",
            help="importance matrix: a file (ours, llama-imatrix's, .dat), or collected now and kept",
        )
        parser.add_argument(
            "--calibration",
            default="",
            metavar="SET|FILE",
            help="what is read to collect it: a prompt set, JSON lines of one, or a text file "
            "(default: the half of --prompts that is not measured with)",
        )
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Any) -> None:
        self.run(
            "quantize",
            options["source"],
            options["target"],
            options,
            level=options["level"],
            maker=options["maker"],
            budget=options["budget"],
            max_loss=options["max_loss"],
            importance=_path(options["importance"]),
            calibration=_path(options["calibration"]),
        )


def _path(asked: str) -> str:
    """Whole, for whoever does the job; what is no file is a name."""
    return str(Path(asked).resolve()) if asked and Path(asked).is_file() else asked
