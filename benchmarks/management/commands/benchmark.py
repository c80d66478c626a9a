"""`manage.py benchmark`: the same run as the form starts, in the foreground."""

import getpass
import json
import re
import signal
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from pydantic import ValidationError

from benchmarks import comparisons, execution, reports, selectors, services
from benchmarks.engines import Engine, EngineModel, check_models, engine_models, find_engine
from benchmarks.errors import BenchmarkError, BusyError
from benchmarks.estimates import estimate_s
from benchmarks.load.plan import explain
from benchmarks.models import Run, State
from benchmarks.parameters import Parameters
from benchmarks.plans import problems
from benchmarks.templatetags.benchmarks import duration

EXIT = {State.DONE: 0, State.FAILED: 3, State.INTERRUPTED: 3, State.CANCELLED: 130}
HELP = """\
Measure one model or several, with the engine that the gateway uses or another one, and print the figures.

  manage.py benchmark aicleaner-sample
  manage.py benchmark llama3.1:8b qwen3:8b --kind throughput --concurrency 8 --json
  manage.py benchmark --compare 12 15

Ctrl-C ends the run and keeps what was measured. Exit codes: 0 done, 1 bad input, 3 the engine or the run failed,
4 another benchmark is running and --no-wait was given, 130 ended by Ctrl-C."""


class Command(BaseCommand):
    help = HELP

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("models", nargs="*", metavar="MODEL")
        add(
            "--compare",
            nargs=2,
            metavar=("A", "B"),
            help="compare two runs: ID, or ID/MODEL of a run with several",
        )
        add("--kind", default="latency", help="latency, throughput or load (default: %(default)s)")
        add(
            "--engine",
            default="gateway",
            help="gateway, cloud (with --url), or a name of /engines/; default: %(default)s",
        )
        add("--url", default="", help="address, with --engine cloud")
        add("--key-variable", default="", metavar="NAME", help="environment variable with the API key")
        add("--workload", help="task_generation (default), image_analysis or mixed")
        add("--prompt-tokens", type=int, metavar="N", help="instead of --workload, with --output-tokens")
        add("--output-tokens", type=int, metavar="N")
        add("--requests", type=int, default=10, metavar="N", help="per round (default: %(default)s)")
        add("--rounds", type=int, default=6, metavar="N", help="default: %(default)s")
        add("--warmup", type=int, metavar="N", help="requests before each round that do not count")
        add(
            "--concurrency",
            type=int,
            metavar="N",
            help="requests at a time, or users (default: 4; latency: 1)",
        )
        add("--rate", type=float, metavar="PER_S", help="arrivals per second, for load")
        add("--think-time", type=float, default=0, metavar="S", help="pause of a user, for load")
        add("--num-predict", type=int, metavar="N", help="most tokens of an answer (default: 64)")
        add("--num-ctx", type=int, metavar="N")
        add("--temperature", type=float, default=0.0)
        add("--seed", type=int, default=0)
        add("--timeout", type=float, default=120, metavar="S", help="of a request (default: %(default)s)")
        add("--slo-ttft", type=float, metavar="MS")
        add("--slo-total", type=float, metavar="MS")
        add("--slo-tpot", type=float, metavar="MS")
        add("--json", action="store_true", help="print the result as JSON, and nothing else, on stdout")
        add("--yes", action="store_true", help="start without asking, however long it takes")
        add(
            "--no-wait",
            action="store_true",
            help="fail while another benchmark is running, rather than wait for it",
        )

    def handle(self, *args: object, **options: Any) -> None:
        if options["compare"]:
            if options["models"]:
                raise CommandError("Give models to measure, or --compare with two runs, not both.")
            self._compare(*options["compare"], as_json=options["json"])
            return
        if not options["models"]:
            raise CommandError("Name one model or more; 'manage.py benchmark --help' shows the rest.")
        try:
            parameters = self._parameters(options)
            engine = find_engine(parameters.engine, parameters.url, parameters.key_variable)
            found = check_models(parameters.models, self._models_of(engine))
        except BenchmarkError as error:
            raise CommandError(str(error)) from error
        names = tuple(dict.fromkeys(model.name for model in found.values()))
        parameters = parameters.model_copy(update={"models": names})
        self._confirm(parameters, ask=not options["yes"])
        run = self._measure(parameters, wait=not options["no_wait"])
        self._print(run, as_json=options["json"])
        if status := EXIT[State(run.state)]:
            raise SystemExit(status)

    def _models_of(self, engine: Engine) -> list[EngineModel]:
        """An engine that is away is no bad input."""
        try:
            return engine_models(engine)
        except BenchmarkError as error:
            raise CommandError(str(error), returncode=EXIT[State.FAILED]) from error

    def _parameters(self, options: dict[str, Any]) -> Parameters:
        lengths = options["prompt_tokens"] is not None or options["output_tokens"] is not None
        latency, rate = options["kind"] == "latency", options["rate"]
        if options["engine"] != "cloud" and (options["url"] or options["key_variable"]):
            raise CommandError("--url and --key-variable go with --engine cloud; other engines have theirs.")
        try:
            parameters = Parameters(
                engine=options["engine"],
                url=options["url"],
                key_variable=options["key_variable"],
                models=tuple(options["models"]),
                kind=options["kind"],
                workload=options["workload"] or (None if lengths else "task_generation"),
                prompt_tokens=options["prompt_tokens"],
                output_tokens=options["output_tokens"],
                n_rounds=options["rounds"],
                n_requests=options["requests"],
                n_warmup=options["warmup"],
                concurrency=(1 if latency or rate else 4)
                if options["concurrency"] is None
                else options["concurrency"],
                rate_per_s=rate,
                think_time_s=options["think_time"],
                num_predict=(None if lengths else 64)
                if options["num_predict"] is None
                else options["num_predict"],
                num_ctx=options["num_ctx"],
                temperature=options["temperature"],
                slo={
                    "ttft_ms": options["slo_ttft"],
                    "total_ms": options["slo_total"],
                    "tpot_ms": options["slo_tpot"],
                },
                timeout_s=options["timeout"],
                seed=options["seed"],
            )
            wrong = [_worded(text) for _, text in problems(parameters)]
        except ValidationError as error:
            wrong = [f"{_argument(field)}: {_worded(text)}" for field, text in explain(error)]
        if wrong:
            raise CommandError("\n".join(wrong))
        return parameters

    def _confirm(self, parameters: Parameters, *, ask: bool) -> None:
        seconds = estimate_s(parameters)
        how_long = (
            f"about {duration(seconds)}" if seconds is not None else "unknown: nothing comparable is recorded"
        )
        self._say(f"{parameters.n_total} requests to {', '.join(parameters.models)}; duration {how_long}.")
        if ask and sys.stdin.isatty() and (seconds is None or seconds > 60):
            self.stderr.write("Start? [Y/n] ", ending="")
            if sys.stdin.readline().strip().lower() not in {"", "y", "yes"}:
                raise CommandError("Nothing was started.")

    def _measure(self, parameters: Parameters, *, wait: bool) -> Run:
        pressed: list[int] = []
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, lambda found, _: pressed.append(found))
        try:
            run = self._take_turn(parameters, pressed, wait=wait)
            bar = Bar(sys.stderr)
            execution.execute(
                run,
                stopping=lambda: "ended at the terminal" if pressed else "",
                stopped_as=State.CANCELLED,
                watch=bar.show,
            )
            bar.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        run.refresh_from_db()
        return run

    def _take_turn(self, parameters: Parameters, pressed: list[int], *, wait: bool) -> Run:
        """Start as soon as no other run is running on this host."""
        who, said = f"{getpass.getuser()} at the terminal", False
        while True:
            try:
                return services.create_running_run(
                    parameters, host=settings.HOST_NAME, who=who, now=timezone.now()
                )
            except BusyError as error:
                if not wait:
                    raise CommandError(
                        f"{error} Without --no-wait this command waits for it.", returncode=4
                    ) from error
                if not said:
                    self._say(f"{error} This one starts when that has ended; Ctrl-C gives up.")
                said = True
            services.interrupt_lost_runs(now=timezone.now())
            if pressed:
                raise SystemExit(130)
            time.sleep(0.5)

    def _print(self, run: Run, *, as_json: bool) -> None:
        outcome = services.sum_up(run)
        if as_json:
            self.stdout.write(json.dumps(reports.run_summary(run, outcome), indent=2))
        else:
            self.stdout.write(reports.run_as_text(run, outcome))
        if run.reason:
            self._say(run.reason)

    def _compare(self, asked_a: str, asked_b: str, *, as_json: bool) -> None:
        sides = []
        for asked in (asked_a, asked_b):
            side = comparisons.find_side(asked)
            if side is None:
                known = ", ".join(str(run.pk) for run in selectors.comparable_runs(limit=20)) or "none"
                raise CommandError(f"There is no measured run {asked}. Runs with results: {known}.")
            sides.append(side)
        comparison = comparisons.compare_sides(*sides)
        if as_json:
            self.stdout.write(json.dumps(comparison.as_json(), indent=2))
        else:
            self.stdout.write(comparison.as_text())

    def _say(self, text: str) -> None:
        """To the person; stdout belongs to the result."""
        self.stderr.write(text)


class Bar:
    """A line that is drawn over on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, out: Any) -> None:
        self.out, self.tty = out, out.isatty()
        self._next = 0.0

    def show(self, progress: dict[str, Any]) -> None:
        now = time.monotonic()
        if not self.tty and now < self._next:
            return
        self._next = now + 10
        done, total = progress["done"], progress["total"]
        left = f", {duration(progress['eta_s'])} left" if progress["eta_s"] is not None else ""
        text = (
            f"{done}/{total}, {progress['tokens_per_s']:.1f} tok/s, {progress['errors']} errors, "
            f"{progress['model']} round {progress['round']}/{progress['n_rounds']}{left}"
        )
        if self.tty:
            filled = round(24 * done / max(total, 1))
            self.out.write(f"\r\033[K[{'#' * filled}{'.' * (24 - filled)}] {text}")
        else:
            self.out.write(text + "\n")
        self.out.flush()

    def close(self) -> None:
        if self.tty:
            self.out.write("\r\033[K")
            self.out.flush()


def _worded(text: str) -> str:
    """A sentence about fields as one about arguments; names without `_` are plain words in it."""
    return re.sub(
        r"\b[a-z]+_[a-z_]+\b",
        lambda found: _argument(found[0]) if found[0] in Parameters.model_fields else found[0],
        text,
    )


def _argument(field: str) -> str:
    """What was given on the command line for a field of the parameters: `--requests` for `n_requests`, `--slo-ttft` for
    `slo.ttft_ms`."""
    name = field.removeprefix("n_").removesuffix("_ms").removesuffix("_per_s").removesuffix("_s")
    return "MODEL" if name.startswith("models") else "--" + name.replace(".", "-").replace("_", "-")
