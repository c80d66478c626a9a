"""`python -m aicleaner_site.web ARGUMENTS OF DAPHNE`: Daphne, made cheap for many open sockets (`make bench ARGS=live`)."""

import asyncio

import uvloop


def main() -> None:
    # Twisted's reactor stands on the loop that asyncio makes when daphne.server is imported.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    from daphne.cli import CommandLineInterface

    _leave_debug_lines_plain()
    CommandLineInterface.entrypoint()


def _leave_debug_lines_plain() -> None:
    """Autobahn paints the words of a debug line for each frame, also when nobody reads it: a fifth of what a frame costs."""
    from autobahn.websocket import protocol

    for name in ("hltype", "hlval"):
        setattr(protocol, name, lambda value, **_colours: value)


if __name__ == "__main__":
    main()
