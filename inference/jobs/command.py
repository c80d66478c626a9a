"""A job in the foreground: what `manage.py quantize`, `quality`, `archive` and `unarchive` share."""

import getpass
import json
import signal
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from pydantic import ValidationError

from inference.errors import BusyError, JobInputError
from inference.jobs import execution, reports, services
from inference.jobs.parameters import JobParameters, check
from inference.models import JobState, ModelJob
from inference.models.prompt_set import SHIPPED
from inference.prompt_sets.selectors import names
from inference.prompt_sets.services import add_file
from inference.work.plan import Measures

EXIT = {JobState.DONE: 0, JobState.FAILED: 3, JobState.INTERRUPTED: 3, JobState.CANCELLED: 130}
WAIT_S = 0.5


class JobCommand(BaseCommand):
    """Subclasses say the arguments and call `run`. Exit codes: 0 done, 1 bad input, 3 the engine or the job failed,
    4 another job is running and --no-wait was given, 130 ended by Ctrl-C."""

    measures = True  # whether this kind of job compares two models

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add(
            "--engine",
            default="",
            metavar="NAME",
            help="as /engines/ calls it; default: the first that answers and has the model",
        )
        if self.measures:
            self._add_measures(add)
        add("--json", action="store_true", help="print the result as JSON, and nothing else, on stdout")
        add(
            "--no-wait",
            action="store_true",
            help="fail while another job is running, rather than wait for it",
        )

    def _add_measures(self, add: Callable[..., object]) -> None:
        add(
            "--prompts",
            default="",
            metavar="NAME|FILE",
            help=f"labelled prompts: a set's name, or a file of JSON lines, which becomes a set (default: {SHIPPED})",
        )
        for name, field in Measures.model_fields.items():
            default = field.default
            add(
                f"--{name.replace('_', '-')}",
                type=int,
                default=default,
                metavar="N",
                help=f"{field.description} ({default})",
            )

    def run(self, kind: str, source: str, target: str, options: dict[str, Any], **more: Any) -> None:
        try:
            if self.measures:
                more["measures"] = Measures(**{name: options[name] for name in Measures.model_fields})
                more["prompts"] = self._prompts(options["prompts"])
                if (read := more.get("calibration", "")).endswith(".jsonl"):
                    more["calibration"] = self._prompts(read)
            parameters = JobParameters(
                engine_kind=options["engine"] or reports.answering_engine(kind, source), **more
            )
            source, target = check(kind, source, target, parameters)
        except ValidationError as error:
            first = error.errors()[0]
            raise CommandError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from error
        except JobInputError as error:
            raise CommandError(f"{error.field}: {error}") from error
        job = self._measure(kind, source, target, parameters, wait=not options["no_wait"])
        if options["json"]:
            self.stdout.write(json.dumps(reports.job_as_json(job), indent=2))
        else:
            self.stdout.write(reports.job_as_text(job))
        if job.reason:
            self.stderr.write(job.reason)
        if status := EXIT[JobState(job.state)]:
            raise SystemExit(status)

    def _prompts(self, asked: str) -> str:
        """The name of a set. A file becomes one, so that the record can say later what was measured with."""
        path = Path(asked)
        if not asked or asked in names() or not path.is_file():
            return asked
        added = add_file(path, who=getpass.getuser(), now=timezone.now())
        self.stderr.write(f"{path} is the prompt set {added.name} ({added.n} prompts).")
        return added.name

    def _measure(
        self, kind: str, source: str, target: str, parameters: JobParameters, *, wait: bool
    ) -> ModelJob:
        pressed: list[int] = []
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, lambda got, _: pressed.append(got)) for number in numbers}
        bar = Bar(sys.stderr)
        try:
            job = self._take_turn(kind, source, target, parameters, pressed, wait=wait)
            execution.execute(
                job,
                stopping=lambda: "ended by Ctrl-C" if pressed else "",
                stopped_as=JobState.CANCELLED,
                watch=bar.show,
            )
        finally:
            bar.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        job.refresh_from_db()
        return job

    def _take_turn(
        self,
        kind: str,
        source: str,
        target: str,
        parameters: JobParameters,
        pressed: list[int],
        *,
        wait: bool,
    ) -> ModelJob:
        """Start as soon as no other job is running on this host."""
        who, said = f"{getpass.getuser()} at the terminal", False
        while True:
            now = timezone.now()
            try:
                return services.create_job(
                    kind,
                    source,
                    target,
                    parameters,
                    host=settings.HOST_NAME,
                    who=who,
                    user=None,
                    now=now,
                    running=True,
                )
            except BusyError as error:
                if not wait:
                    text = f"{error} Without --no-wait this command waits for it."
                    raise CommandError(text, returncode=4) from error
                if not said:
                    self.stderr.write(f"{error} This one starts when that has ended; Ctrl-C gives up.")
                said = True
            services.interrupt_lost_jobs(now=now)
            if pressed:
                raise SystemExit(130)
            time.sleep(WAIT_S)


class Bar:
    """A line that is drawn over on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, out: TextIO) -> None:
        self.out, self.tty = out, out.isatty()
        self._next, self._step = 0.0, ""

    def show(self, message: dict[str, Any]) -> None:
        if message["type"] != "step":
            return
        now = time.monotonic()
        if not self.tty and now < self._next and message["step"] == self._step:
            return
        self._next, self._step = now + 10, message["step"]
        done, total = message["done"], max(message["total"], 1)
        text = f"{message['step']}: {reports.amount(done, message['unit'])} of {reports.amount(total, message['unit'])}"
        if "loss" in message:
            text += f", loss {message['loss']:.3g}, {message['tokens_per_s']:,.0f} tok/s, {message['eta_s']:,.0f} s left"
        if self.tty:
            filled = round(24 * done / total)
            self.out.write(f"\r\033[K[{'#' * filled}{'.' * (24 - filled)}] {text}")
        else:
            self.out.write(text + "\n")
        self.out.flush()

    def step(self, name: str, done: int, total: int) -> None:
        """Of bytes."""
        self.show({"type": "step", "step": name, "done": done, "total": total, "unit": "bytes"})

    def close(self) -> None:
        if self.tty:
            self.out.write("\r\033[K")
            self.out.flush()
