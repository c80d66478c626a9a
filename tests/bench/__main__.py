"""`python -m tests.bench [PART ...] [--json FILE]`; the parts are those of PARTS, default: all of them."""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

import psutil

from tests.bench import Row

PARTS = (
    "store",
    "history",
    "gateway",
    "collector",
    "delivery",
    "live",
    "load",
    "analysis",
    "variants",
    "whole",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    load = psutil.getloadavg()[0]
    print(
        f"{os.cpu_count()} cores, load {load:.2f} before; shared machines are noisy: look at ratios",
        flush=True,
    )
    rows: list[Row] = []
    for part in arguments.parts or PARTS:
        print(f"\n{part}", flush=True)
        for row in importlib.import_module(f"tests.bench.{part}").run():
            mark = {True: "reached", False: "MISSED", None: ""}[row.reached]
            reach = "" if row.reach is None else f"<= {row.reach:g}"
            print(
                f"  {row.what:<62} {row.value:>10.3f} {row.unit:<12} {reach:<10} {mark} {row.note}",
                flush=True,
            )
            rows.append(row)
    if arguments.json:
        arguments.json.write_text(
            json.dumps([{**vars(row), "reached": row.reached} for row in rows], indent=1)
        )
    missed = [row for row in rows if row.reached is False]
    print(f"\n{len(missed)} of {sum(row.reach is not None for row in rows)} figures missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
