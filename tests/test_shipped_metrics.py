"""Every metric is documented as it is, and the alerts and the dashboard ask for nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from inboxd import cli, ctl
from inboxd.metrics import DISCONNECT_REASONS
from inboxd.settings import Settings
from shipped import ROOT, commands_in, mistake_in, table

FOLDER = ROOT / "metrics"
# In a process of its own: other tests count in this one, and their labels would be taken for the daemon's.
SCRAPE = """
import sys
from inboxd import metrics
metrics.set_up()
for gauge in (
    metrics.CONNECTOR_UP,
    metrics.LAST_SYNC,
    metrics.LAST_ACTIVITY,
    metrics.FAILURES,
    metrics.BACKFILL_REMAINING,
    metrics.BACKFILL_RESTS,
    metrics.DOWNLOAD_RATIO,
    metrics.LEFT_OUT,
    metrics.TOKEN_EXPIRY,
):
    gauge.labels("7a3f").set(1)
metrics.CONNECTOR_PARKED.labels("7a3f", "auth").set(1)
sys.stdout.buffer.write(metrics.exposition())
if "forgotten" in sys.argv:
    sys.stdout.write("# forgotten\\n")
    sys.stdout.flush()
    metrics.forget("7a3f")
    metrics.forget("never-seen")
    sys.stdout.buffer.write(metrics.exposition())
"""
ADDED_BY_PROMETHEUS = {"job", "instance", "le"}
METRIC = re.compile(r"\binboxd_[a-z_]+\b")
SELECTOR = re.compile(r"\b(inboxd_[a-z_]+)\{([^}]*)\}")


@dataclass(frozen=True)
class Exposed:
    """What a scrape shows of one metric."""

    type: str
    labels: dict[str, set[str]]
    samples: set[str]


def scrape_text(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", SCRAPE, *arguments]
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


@pytest.fixture(scope="module")
def exposed() -> dict[str, Exposed]:
    found: dict[str, Exposed] = {}
    for family in text_string_to_metric_families(scrape_text()):
        labels: defaultdict[str, set[str]] = defaultdict(set)
        for sample in family.samples:
            for label, value in sample.labels.items():
                labels[label].add(value)
        labels.pop("le", None)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = Exposed(family.type, dict(labels), {sample.name for sample in family.samples})
    return found


def promtool(*arguments: str, folder: Path = FOLDER, text: str | None = None) -> None:
    tool = shutil.which("promtool")
    assert tool is not None, "promtool is missing: apt install prometheus"
    verdict = subprocess.run([tool, *arguments], cwd=folder, input=text, capture_output=True, text=True, check=False)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))


def targets() -> Iterator[dict[str, Any]]:
    for panel in dashboard()["panels"]:
        yield from panel.get("targets", [])


def queries() -> list[str]:
    """Every expression of the alerts and the dashboard, and what fills its variables."""
    variables = [variable["definition"] for variable in dashboard()["templating"]["list"] if "definition" in variable]
    return [rule["expr"] for rule in rules()] + [target["expr"] for target in targets()] + variables


# --- the scrape -------------------------------------------------------------------------------------------------------


def test_promtool_finds_nothing_to_say_about_a_scrape() -> None:
    promtool("check", "metrics", text=scrape_text())


def test_everything_starts_at_zero_and_has_our_prefix(exposed: dict[str, Exposed]) -> None:
    assert len(exposed) > 20
    for name, metric in exposed.items():
        assert name.startswith("inboxd_")
        assert metric.samples, f"{name} shows nothing before its first event"
        assert not any(sample.endswith("_created") for sample in metric.samples)


def test_series_of_a_removed_connector_are_gone() -> None:
    before, _, after = scrape_text("forgotten").partition("# forgotten\n")
    assert before.count("7a3f") == 10
    assert "7a3f" not in after
    assert "never-seen" not in after


# --- README.md --------------------------------------------------------------------------------------------------------


def documented_labels(cell: str) -> dict[str, set[str]]:
    """`state`: `off` `idle`; `result`: `ok` — or names alone, separated by commas."""
    found: dict[str, set[str]] = {}
    for part in re.split(r"[;,]", cell):
        words = re.findall(r"`([^`]+)`", part)
        if words:
            found[words[0]] = set(words[1:])
    return found


def test_readme_documents_every_metric_as_it_is(exposed: dict[str, Exposed]) -> None:
    rows = {row["Metric"].strip("`"): row for row in table(FOLDER / "README.md", "Metric")}
    assert list(rows) == list(exposed), "the same metrics in the same order"
    for name, row in rows.items():
        documented = documented_labels(row["Labels"])
        assert row["Type"] == exposed[name].type, name
        assert set(documented) == set(exposed[name].labels), name
        for label, values in documented.items():
            assert not values or values == exposed[name].labels[label], (name, label)
        assert row["Unit"], name
        assert row["Meaning"].endswith("."), name


def test_units_agree_with_the_names(exposed: dict[str, Exposed]) -> None:
    rows = {row["Metric"].strip("`"): row for row in table(FOLDER / "README.md", "Metric")}
    for name in exposed:
        stem = name.removesuffix("_total")
        assert stem.endswith("_seconds") == ("seconds" in rows[name]["Unit"]), name
        assert stem.endswith("_bytes") == (rows[name]["Unit"] == "bytes"), name


# --- alerts.yml and prometheus.yml ------------------------------------------------------------------------------------


def test_promtool_accepts_the_alerts() -> None:
    promtool("check", "rules", "alerts.yml")


def test_alerts_fire_and_stay_silent_as_their_tests_say() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_shown_firing_and_silent() -> None:
    document = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))
    shown: defaultdict[str, set[bool]] = defaultdict(set)
    for case in document["tests"]:
        for check in case["alert_rule_test"]:
            shown[check["alertname"]].add(bool(check["exp_alerts"]))
    assert shown == {rule["alert"]: {True, False} for rule in rules()}


def test_every_alert_says_how_bad_what_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]
        words = prose_commands(rule["annotations"]["description"])
        assert words, f"{rule['alert']} names no command"


def prose_commands(prose: str) -> list[list[str]]:
    """`…: inboxctl test NAME; …`: a command begins with its program and ends with the clause."""
    calls = re.findall(r"\b(?:inboxctl|inboxd (?:run|check|demo))\b[^;,)]*?(?=[;,)]|\. | and | with | for |$)", prose)
    return list(commands_in(re.sub(r"\{\{[^}]*\}\}", "NAME", call) for call in calls))


def test_every_command_in_an_alert_exists() -> None:
    programs = {"inboxd": cli.command, "inboxctl": ctl.cli}
    for rule in rules():
        for words in prose_commands(rule["annotations"]["description"]):
            assert mistake_in(programs, words) is None, rule["alert"]


def test_every_alert_says_how_noisy_it_is() -> None:
    lines = (FOLDER / "alerts.yml").read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(lines):
        if "- alert:" in line:
            comment = place - 1
            while lines[comment - 1].strip().startswith("#"):
                comment -= 1
            assert lines[comment].strip().startswith("# Noise: "), line


def test_promtool_accepts_the_scrape_configuration(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "prometheus.yml", tmp_path)
    shutil.copy(FOLDER / "alerts.yml", tmp_path / "inboxd-alerts.yml")
    promtool("check", "config", "prometheus.yml", folder=tmp_path)


def test_scrape_configuration_points_at_the_daemons_default() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [Settings.model_fields["metrics"].default.listen]
    named = {name for rule in rules() for name in re.findall(r'job="([^"]*)"', rule["expr"])}
    assert named == {job["job_name"]}


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_alerts_and_dashboard_ask_for_metrics_that_exist(exposed: dict[str, Exposed]) -> None:
    samples = {sample for metric in exposed.values() for sample in metric.samples}
    asked = {name for query in queries() for name in METRIC.findall(query)}
    assert asked <= samples


def test_alerts_and_dashboard_select_by_labels_that_exist(exposed: dict[str, Exposed]) -> None:
    by_sample = {sample: metric for metric in exposed.values() for sample in metric.samples}
    for query in queries():
        for name, matchers in SELECTOR.findall(query):
            for label, value in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', matchers):
                labels = by_sample[name].labels
                assert label in labels.keys() | ADDED_BY_PROMETHEUS, query
                known = {*DISCONNECT_REASONS} if label == "reason" else labels.get(label, {value})
                assert value in known, query


def test_dashboard_groups_and_names_by_labels_that_exist(exposed: dict[str, Exposed]) -> None:
    by_sample = {sample: metric for metric in exposed.values() for sample in metric.samples}
    for target in targets():
        used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        used |= {word.strip() for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for word in group.split(",")}
        for name in METRIC.findall(target["expr"]):
            assert used - ADDED_BY_PROMETHEUS <= by_sample[name].labels.keys(), target["expr"]


# --- dashboard.json ---------------------------------------------------------------------------------------------------


def test_dashboard_queries_are_understood_by_prometheus(tmp_path: Path) -> None:
    expressions = [target["expr"].replace("$__rate_interval", "5m") for target in targets()]
    recorded = [{"record": f"panel:{place}", "expr": expression} for place, expression in enumerate(expressions)]
    document = {"groups": [{"name": "dashboard", "rules": recorded}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    promtool("check", "rules", "rules.yml", folder=tmp_path)
    assert len(expressions) > 30


def test_dashboard_names_no_data_source_of_its_own() -> None:
    board = dashboard()
    assert board["schemaVersion"] >= 39
    assert "id" not in board
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "job", "instance"]
    for panel in board["panels"]:
        if panel["type"] != "row":
            assert {holder["datasource"]["uid"] for holder in (panel, *panel["targets"])} == {"${datasource}"}
    for target in targets():
        assert target["expr"].count('{job=~"$job", instance=~"$instance"') == len(METRIC.findall(target["expr"]))


def test_dashboard_panels_are_explained_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"].endswith("."), panel["title"]
