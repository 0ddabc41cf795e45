"""Every metric of the daemon, in one registry, zeroed at start. Names, units and labels: metrics/README.md.

Labels are bounded: connectors by id, everything else from a fixed set. A connector's children go with it (`forget`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from inboxd import __version__
from inboxd.model import State

# One series less for each counter: everything here starts with the daemon.
disable_created_metrics()

CONTENT_TYPE = CONTENT_TYPE_LATEST
REGISTRY = CollectorRegistry(auto_describe=True)

DISCONNECT_REASONS = (
    "error", "unreachable", "tls", "insecure", "auth", "credential", "proxy", "mailbox", "throttled", "lost", "bye",
    "stalled", "protocol", "refused", "stopped", "changed", "needs_reauth", "token",
    "renewed",
)  # fmt: skip
COMMANDS = (
    "LOGIN", "AUTHENTICATE", "CAPABILITY", "STARTTLS", "EXAMINE", "SELECT", "SEARCH", "FETCH", "IDLE", "NOOP", "LOGOUT",
    "APPEND", "STATUS", "LIST", "STORE", "CLOSE", "NOTIFY", "ENABLE",
)  # fmt: skip

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


@final
class ConnectorGauge(Collector):
    """A gauge labelled by connector, for thousands of them: the library's takes 800 bytes and 12 µs a scrape for each.

    Used as the library's are; a value may be a function that is asked at each scrape.
    """

    def __init__(self, name: str, documentation: str, *, registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._values: dict[str, float | Callable[[], float]] = {}
        registry.register(self)

    def labels(self, connector: str) -> _Cell:
        """The connector's value, to be set."""
        return _Cell(self._values, connector)

    def remove_by_labels(self, labels: dict[str, str]) -> None:
        """The connector has no value any more."""
        self._values.pop(labels["connector"], None)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Without values."""
        yield GaugeMetricFamily(self._name, self._documentation, labels=["connector"])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """With them, for the registry."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=["connector"])
        for connector, value in self._now():
            family.add_metric([connector], value)
        yield family

    def exposition(self) -> bytes:
        """Its part of a scrape. Connectors' ids need no escaping."""
        head = f"# HELP {self._name} {self._documentation}\n# TYPE {self._name} gauge\n"
        lines = [f'{self._name}{{connector="{label}"}} {float(value)!r}\n' for label, value in self._now()]
        return (head + "".join(lines)).encode()

    def _now(self) -> Iterator[tuple[str, float]]:
        for connector, value in tuple(self._values.items()):
            yield connector, value() if callable(value) else value


@final
class _Cell:
    __slots__ = ("_connector", "_values")

    def __init__(self, values: dict[str, float | Callable[[], float]], connector: str) -> None:
        self._values = values
        self._connector = connector

    def set(self, value: float) -> None:
        self._values[self._connector] = value

    def set_function(self, function: Callable[[], float]) -> None:
        self._values[self._connector] = function


BUILD = Info("inboxd_build", "The running version.", registry=REGISTRY)
CONNECTORS = Gauge("inboxd_connectors", "Connectors by supervisor state.", ["state"], registry=REGISTRY)
CONNECTOR_UP = ConnectorGauge(
    "inboxd_connector_up", "1 while the connector's session is open and reading mail.", registry=REGISTRY
)
CONNECTOR_PARKED = Gauge(
    "inboxd_connector_parked", "1 while the connector waits for a person, by reason.", ["connector", "reason"],
    registry=REGISTRY,
)  # fmt: skip
LAST_SYNC = ConnectorGauge(
    "inboxd_connector_last_sync_timestamp_seconds", "When the connector was last known complete.", registry=REGISTRY
)
LAST_ACTIVITY = ConnectorGauge(
    "inboxd_connector_last_server_activity_timestamp_seconds",
    "When the IMAP server last sent a byte; 0: not since the daemon started.",
    registry=REGISTRY,
)
FAILURES = ConnectorGauge("inboxd_connector_consecutive_failures", "Sessions failed in a row.", registry=REGISTRY)
BACKFILL_REMAINING = ConnectorGauge(
    "inboxd_backfill_remaining_messages", "Messages that the connector's first load has still to bring.",
    registry=REGISTRY,
)  # fmt: skip
BACKFILL_RESTS = ConnectorGauge(
    "inboxd_backfill_rests", "1 while a first load rests, because the account has downloaded most of what it may.",
    registry=REGISTRY,
)  # fmt: skip
DOWNLOAD_RATIO = ConnectorGauge(
    "inboxd_connector_download_budget_ratio", "Downloaded in 24 hours, of what the account may.", registry=REGISTRY
)
LEFT_OUT = ConnectorGauge(
    "inboxd_connector_folders_left_out", "Followed mailboxes that cannot be opened.", registry=REGISTRY
)
TOKEN_EXPIRY = ConnectorGauge(
    "inboxd_oauth_token_expiry_timestamp_seconds", "Until when the connector's OAuth2 access token is good.",
    registry=REGISTRY,
)  # fmt: skip
STORED = Counter("inboxd_messages_stored_total", "Messages committed to the store.", registry=REGISTRY)
STORED_BYTES = Counter("inboxd_messages_stored_bytes_total", "Raw bytes of the stored messages.", registry=REGISTRY)
DEFECTIVE = Counter(
    "inboxd_messages_defective_total", "Messages stored raw, unparsable or too large.", registry=REGISTRY
)
REMAPPED = Counter(
    "inboxd_messages_remapped_total", "Messages recognised after their mailbox was renumbered.", registry=REGISTRY
)
UIDVALIDITY_RESETS = Counter("inboxd_uidvalidity_resets_total", "Mailboxes found renumbered.", registry=REGISTRY)
FLAGS_CHANGED = Counter(
    "inboxd_message_flags_changed_total", "Messages whose flags changed in their mailbox.", registry=REGISTRY
)
VANISHED = Counter("inboxd_messages_vanished_total", "Messages found deleted in their mailbox.", registry=REGISTRY)
DETECTION = Histogram(
    "inboxd_message_detection_latency_seconds",
    "Arrival at the server (INTERNALDATE, whole seconds) to committed here, for pushed and polled mail.",
    buckets=_SLOW, registry=REGISTRY,
)  # fmt: skip
PUSH_TO_STORED = Histogram(
    "inboxd_push_to_stored_seconds", "EXISTS read from the wire to committed here.", buckets=_FAST, registry=REGISTRY
)
LOGINS = Counter("inboxd_imap_logins_total", "IMAP logins by result.", ["result"], registry=REGISTRY)
SESSIONS = Gauge("inboxd_imap_sessions", "IMAP sessions open.", registry=REGISTRY)
DISCONNECTS = Counter("inboxd_imap_disconnects_total", "IMAP sessions ended, by reason.", ["reason"], registry=REGISTRY)
COMMAND_SECONDS = Histogram(
    "inboxd_imap_command_duration_seconds", "IMAP commands, sent to answered; IDLE excluded.", ["command"],
    buckets=_FAST, registry=REGISTRY,
)  # fmt: skip
IMAP_BYTES = Counter(
    "inboxd_imap_bytes_total", "Bytes of IMAP by direction, inside TLS.", ["direction"], registry=REGISTRY
)
MISSED_PUSHES = Counter(
    "inboxd_imap_missed_pushes_total", "Times new mail was found at the end of an IDLE that never announced it.",
    registry=REGISTRY,
)  # fmt: skip
OAUTH_REFRESHES = Counter(
    "inboxd_oauth_refreshes_total", "OAuth2 access tokens asked for, by result.", ["result"], registry=REGISTRY
)
SYNCS = Counter("inboxd_sync_runs_total", "Sync runs by trigger and result.", ["trigger", "result"], registry=REGISTRY)
SEND_OUTCOMES = ("sent", "failed", "unknown")
OUTBOX_STATES = ("queued", "sending", "deferred", "failed", "unknown")
SENDS = Counter("inboxd_sends_total", "Mails sent, failed or unknown: their outcomes.", ["result"], registry=REGISTRY)
SEND_ATTEMPTS = Counter("inboxd_send_attempts_total", "Tries to send, by result.", ["result"], registry=REGISTRY)
SEND_SECONDS = Histogram("inboxd_send_duration_seconds", "One try to send.", buckets=_FAST, registry=REGISTRY)
OUTBOX = Gauge("inboxd_outbox_mails", "Mails in the outbox by state.", ["state"], registry=REGISTRY)
OUTBOX_AGE = Gauge(
    "inboxd_outbox_oldest_age_seconds", "Since when the oldest mail that is still to be sent waits.", registry=REGISTRY
)
TRANSACTION_SECONDS = Histogram(
    "inboxd_store_transaction_duration_seconds", "Write transactions, begun to committed.", buckets=_FAST,
    registry=REGISTRY,
)  # fmt: skip
LOOP_LAG = Histogram(
    "inboxd_event_loop_lag_seconds", "How late the event loop runs a timer.", buckets=_FAST, registry=REGISTRY
)
API_REQUESTS = Counter("inboxd_api_requests_total", "API answers by status class.", ["status"], registry=REGISTRY)
API_KEYS_REFUSED = Counter(
    "inboxd_api_keys_refused_total", "Requests refused for their API key.", ["reason"], registry=REGISTRY
)

WEBHOOK_POSTS = Counter("inboxd_webhook_posts_total", "Posts to webhooks by result.", ["result"], registry=REGISTRY)
WEBHOOK_SECONDS = Histogram(
    "inboxd_webhook_post_duration_seconds", "One post to a webhook, connecting included.", buckets=_FAST,
    registry=REGISTRY,
)  # fmt: skip
WEBHOOK_BACKLOG = Gauge("inboxd_webhook_backlog", "Posts to webhooks that wait.", registry=REGISTRY)
SENT_COPIES = Counter(
    "inboxd_sent_copies_total", "Copies for Sent mailboxes, by what became of them.", ["result"], registry=REGISTRY
)
SENDS_RESOLVED = Counter(
    "inboxd_unknown_sends_resolved_total", "Sends of unknown outcome looked for, by what came of it.", ["resolution"],
    registry=REGISTRY,
)  # fmt: skip


def _part(metric: ConnectorGauge | MetricWrapperBase) -> Callable[[], bytes]:
    if isinstance(metric, ConnectorGauge):
        return metric.exposition
    alone = CollectorRegistry()
    alone.register(metric)
    return partial(generate_latest, alone)


_OF_CONNECTORS = (CONNECTOR_PARKED, *(one for one in tuple(vars().values()) if isinstance(one, ConnectorGauge)))
# One for each metric above, in that order.
_PARTS = [_part(one) for one in tuple(vars().values()) if isinstance(one, ConnectorGauge | MetricWrapperBase)]

# The values of counters with one label.
_VALUES = {
    LOGINS: ("ok", "refused", "failed"),
    OAUTH_REFRESHES: ("ok", "refused", "failed"),
    API_REQUESTS: ("2xx", "4xx", "5xx"),
    API_KEYS_REFUSED: ("missing", "wrong", "slowed", "scope", "inbox"),
    SENDS: SEND_OUTCOMES,
    SEND_ATTEMPTS: ("sent", "deferred", "failed", "unknown", "queued"),
    SENT_COPIES: ("filed", "found", "no_mailbox", "given_up"),
    SENDS_RESOLVED: ("found", "not_found", "resent"),
    WEBHOOK_POSTS: ("success", "bad_response", "exception", "exhausted"),
}


def set_up() -> None:
    """Give every label child its zero, so that rates and alerts see the first event."""
    BUILD.info({"version": __version__})
    for state in State:
        CONNECTORS.labels(state.value).set(0)
    for reason in DISCONNECT_REASONS:
        DISCONNECTS.labels(reason)
    for command in COMMANDS:
        COMMAND_SECONDS.labels(command)
    for direction in ("in", "out"):
        IMAP_BYTES.labels(direction)
    for trigger in ("direct", "push", "poll", "start"):
        for result in ("ok", "failed"):
            SYNCS.labels(trigger, result)
    for state in OUTBOX_STATES:
        OUTBOX.labels(state).set(0)
    for counter, values in _VALUES.items():
        for value in values:
            counter.labels(value)


def mean_loop_lag_seconds() -> float:
    """The mean of `inboxd_event_loop_lag_seconds` since the daemon began; 0 before the first."""
    found = {sample.name.rpartition("_")[2]: sample.value for one in LOOP_LAG.collect() for sample in one.samples}
    return found["sum"] / found["count"] if found.get("count") else 0.0


def forget(connector: str) -> None:
    """Remove a deleted connector's children."""
    for gauge in _OF_CONNECTORS:
        gauge.remove_by_labels({"connector": connector})


def exposition() -> bytes:
    """A scrape, in Prometheus' text format."""
    return b"".join(part() for part in _PARTS)
