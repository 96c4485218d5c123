"""Tries the clients: `python -m clients [NAME …]`.

Makes an environment for each in the folder .clients, which needs a package index, and prints a table of what
reached the model."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from clients.environments import install, read_version
from clients.registry import CLIENTS
from clients.running import Outcome, Server, try_client
from clients.table import format_long_table, format_table
from sa2va_server.cli.demo_scene import write_demo_clip

CLIP_FRAMES = 12
LONG_FRAMES = 400
PATIENT_S = 300.0
"""How long a call may take where the client takes an option."""


def main() -> int:
    """0 if with every client the whole conversation went well."""
    options = _parse_options()
    home = Path(options.home).resolve()
    tried = [client for client in CLIENTS if client.name in options.clients or not options.clients]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="sa2va-clients-") as folder:
        clip = write_demo_clip(Path(folder) / "clip.mp4", frames=LONG_FRAMES if options.long else CLIP_FRAMES)
        for client in tried:
            python = install(client, home / client.name)
            for variant in client.variants[: client.time_limits if options.long else None]:
                server = Server(clip, tuple(options.server_option))
                limit_s = None if options.long else PATIENT_S
                outcome = try_client(client, variant, python, server, limit_s=limit_s, long=options.long)
                outcomes.append(outcome)
                outcome.write(home)
                state = "done" if options.long else "ok" if outcome.works else "FAILED"
                print(f"{outcome.title}: {state}", file=sys.stderr, flush=True)
    versions = {client.name: read_version(client, home / client.name) for client in tried}
    print(format_long_table(outcomes, versions) if options.long else format_table(outcomes, versions))
    return 0 if options.long or all(outcome.works for outcome in outcomes) else 1


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m clients", description=__doc__)
    parser.add_argument("clients", nargs="*", metavar="NAME", help=", ".join(each.name for each in CLIENTS))
    parser.add_argument(
        "--long",
        action="store_true",
        help="a long call with the client's own limit, a short one, and the long one again",
    )
    parser.add_argument("--home", default=".clients", help="folder of the environments and recordings")
    parser.add_argument(
        "--server-option", action="append", default=[], help="an option for `sa2va mcp`; can be repeated"
    )
    options = parser.parse_args()
    if unknown := set(options.clients) - {client.name for client in CLIENTS}:
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
