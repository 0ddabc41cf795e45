"""`inboxd demo`, as a newcomer runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

LINE = re.compile(r"^  \d\d:\d\d:\d\d +\d+ ms  (\S+) +(.*)$", re.MULTILINE)


def demo(folder: Path, **variables: str) -> subprocess.Popen[str]:
    """The demo in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("INBOXD_")}
    return subprocess.Popen(
        [sys.executable, "-m", "inboxd", "demo", "--folder", str(folder)],
        env=clean | variables | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_demo_shows_mail_arriving_and_one_sent_out_and_back_in(tmp_path: Path) -> None:
    shown, _ = (process := demo(tmp_path, INBOXD_DEMO_SECONDS="8")).communicate(timeout=50)
    assert process.returncode == 0, shown
    lines = LINE.findall(shown)
    assert ("ada@demo.example", "Out and back: sent through the connector") in lines
    assert sum(sender == "shop@outside.example" for sender, _ in lines) >= 2
    assert str(tmp_path) in shown
    for promised in ("x-api-key: demo-", "control.sock", "inboxctl", "/metrics"):
        assert promised in shown
    assert "Traceback" not in shown


def test_demo_without_time_for_any_mail_fails(tmp_path: Path) -> None:
    shown, _ = (process := demo(tmp_path, INBOXD_DEMO_SECONDS="0.01")).communicate(timeout=50)
    assert process.returncode == 1
    assert "No mail arrived" in shown


def test_interrupted_demo_takes_its_daemon_with_it(tmp_path: Path) -> None:
    process = demo(tmp_path)
    output = process.stdout
    assert output is not None
    seen = ""
    while not LINE.search(seen):
        line = output.readline()
        assert line, f"the demo ended by itself:\n{seen}"
        seen += line
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert not (tmp_path / "control.sock").exists()
    assert "Traceback" not in rest
