"""Runs one client's script against the server and the scripted model, with a limit of time."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clients.conversation import Recording
from clients.model_server import serve_model
from clients.registry import Client
from clients.scripted_model import ScriptedModel, make_script
from clients.trial import VARIABLE, Trial
from clients.verdicts import Verdict, judge

STOP_AFTER_S = 300.0
ROOT = Path(__file__).parents[2]
QUIET = {
    "AGNO_TELEMETRY": "false",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "GOOGLE_API_KEY": "none",
    "LANGSMITH_TRACING": "false",
    "OPENAI_API_KEY": "none",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OTEL_SDK_DISABLED": "true",
}
"""Nothing leaves this machine: no reports to the frameworks' makers, and keys that open nothing."""


@dataclass(frozen=True)
class Server:
    """The server that clients start: this project's, in this environment."""

    clip: Path
    options: tuple[str, ...] = ()

    def make_trial(self, model_url: str, store: Path, variant: str, limit_s: float | None) -> Trial:
        """What the client's script is told."""
        env = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(
                str(path) for path in (ROOT, ROOT / "server", ROOT / "integrations")
            ),
            "SA2VA_ROOTS": json.dumps([str(self.clip.parent)]),
            "SA2VA_STORE_DIR": str(store),
        }
        return Trial("sa2va", ("mcp", *self.options), env, model_url, variant, limit_s)


@dataclass(frozen=True)
class Outcome:
    """What became of one client in one variant."""

    client: Client
    variant: str
    recording: Recording
    verdicts: Mapping[str, Verdict]
    exit_code: int | None
    """None if the script had to be stopped."""
    stderr: str

    @property
    def title(self) -> str:
        return f"{self.client.name}, {self.variant}" if self.variant else self.client.name

    @property
    def works(self) -> bool:
        """Whether the conversation went well from its beginning to its end."""
        return self.exit_code == 0 and all(verdict.works for verdict in self.verdicts.values())

    @property
    def last_error(self) -> str:
        """What the script failed with: the last exception on stderr, in a group of them the innermost."""
        if self.exit_code is None:
            return f"still running after {STOP_AFTER_S:.0f} s"
        lines = [line.strip(" |+-") for line in self.stderr.splitlines()]
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Failure|Schema)\b", line)]
        return (errors or lines)[-1][:200] if self.exit_code and lines else ""

    def write(self, folder: Path) -> None:
        """Write all that the model read, and what the script said, for whoever wants to know why."""
        name = self.title.replace(", ", "-").replace(" ", "_")
        exchanges = [dataclasses.asdict(each) for each in self.recording.exchanges]
        (folder / f"{name}.json").write_text(json.dumps(exchanges, indent=1), encoding="utf-8")
        (folder / f"{name}.log").write_text(self.stderr, encoding="utf-8")


def try_client(
    client: Client, variant: str, python: Path, server: Server, *, limit_s: float | None, long: bool = False
) -> Outcome:
    """Run the client's script to its end and judge what the model read."""
    model = ScriptedModel(make_script(str(server.clip), long=long))
    with tempfile.TemporaryDirectory(prefix="sa2va-store-") as folder, serve_model(model) as url:
        trial = server.make_trial(url, Path(folder), variant, limit_s)
        environment = {
            **os.environ,
            **QUIET,
            VARIABLE: trial.to_json(),
            "PYTHONPATH": str(ROOT / "integrations"),
        }
        exit_code, stderr = _run([str(python), "-m", client.module], environment, Path(folder))
        verdicts = judge(model.recording, server.clip.stem)
    return Outcome(client, variant, model.recording, verdicts, exit_code, stderr)


def _run(command: list[str], environment: Mapping[str, str], folder: Path) -> tuple[int | None, str]:
    """(exit code, stderr); the code is None if the process, with those it started, had to be stopped. An
    interrupt stops them, too."""
    process = subprocess.Popen(
        command,
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, stderr = process.communicate(timeout=STOP_AFTER_S)
        return process.returncode, stderr
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, stderr = process.communicate()
        return None, stderr
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGKILL)
        raise
