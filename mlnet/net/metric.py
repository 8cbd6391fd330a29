"""Counters and gauges of a network, as plain values under their Prometheus names."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from mlnet.net.muxer.base import Ending
from mlnet.net.transport.admission import Admission, Failure, Refusal
from mlnet.net.transport.connections import Connection, Connections, Turned
from mlnet.net.transport.inbound_streams import Inbound, Kind

E = TypeVar("E", bound=enum.Enum)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric and its samples.

    Attributes:
        name: Prometheus name, with the unit; it ends in ``_total`` if the value only grows.
        help: one sentence for people.
        samples: values by label; without a label the only key is the empty string.
        label: name of the label whose values are the keys.
    """

    name: str
    help: str
    samples: Mapping[str, float]
    label: str = ""

    @property
    def kind(self) -> Literal["counter", "gauge"]:
        """The metric's type in Prometheus."""
        return "counter" if self.name.endswith("_total") else "gauge"


@dataclass(frozen=True, slots=True)
class Metrics:
    """All metrics at one moment."""

    all: tuple[Metric, ...]

    def value(self, name: str, label: str = "") -> float:
        """One sample.

        Raises:
            KeyError: there is no sample of that name and label.
        """
        found = {metric.name: metric for metric in self.all}
        return found[name].samples[label]


def single(name: str, text: str, value: float) -> Metric:
    """A metric without labels."""
    return Metric(name, text, {"": value})


def _by(kinds: Iterable[E], counts: Counter[E]) -> dict[str, float]:
    """Counts of all kinds. Those that did not occur yet are there with 0: Prometheus computes no rate over
    the first sample of a series that appears late."""
    return {kind.name.lower(): counts[kind] for kind in kinds}


def of_connections(connections: Connections, endings: Counter[Ending]) -> list[Metric]:
    """Metrics of connections whose peers have proved their identity."""
    live = connections.all()
    inbound = sum(connection.is_inbound for connection in live)
    return [
        Metric(
            "mlnet_connections",
            "Connections with peers, by who dialled.",
            {"inbound": inbound, "outbound": len(live) - inbound},
            "direction",
        ),
        Metric(
            "mlnet_connections_turned_away_total",
            "Connections refused after the peer had proved its identity, by reason.",
            _by(Turned, connections.turned),
            "reason",
        ),
        Metric(
            "mlnet_connections_ended_total",
            "Connections that have ended, by reason.",
            _by(Ending, endings),
            "reason",
        ),
        single("mlnet_banned_peers", "Peers banned at present.", connections.banned),
        single("mlnet_streams", "Open streams, whichever side opened them.", _streams(live)),
    ]


def _streams(live: Iterable[Connection]) -> int:
    return sum(connection.session.stream_count for connection in live)


def of_admission(admission: Admission) -> list[Metric]:
    """Metrics of inbound connections before their peers have proved an identity."""
    return [
        single("mlnet_handshakes", "Inbound handshakes under way.", admission.under_way),
        Metric(
            "mlnet_handshakes_failed_total",
            "Inbound connections that proved no identity.",
            _by(Failure, admission.failed),
            "reason",
        ),
        Metric(
            "mlnet_connections_refused_total",
            "Inbound connections that were closed before their first byte was read.",
            _by(Refusal, admission.refused),
            "reason",
        ),
        single("mlnet_banned_addresses", "Addresses banned or slowed down at present.", admission.banned),
        single("mlnet_address_bans_total", "How often an address was banned or slowed down.", admission.bans),
    ]


def of_streams(inbound: Inbound) -> list[Metric]:
    """Metrics of the streams that peers open."""
    return [
        Metric(
            "mlnet_inbound_streams",
            "Streams that peers have open, by what they are for.",
            _by(Kind, inbound.open),
            "kind",
        ),
        single(
            "mlnet_inbound_streams_refused_total",
            "Streams reset because the peer had too many open.",
            inbound.refused,
        ),
        single("mlnet_inbound_streams_failed_total", "Streams that ended in an error.", inbound.failed),
    ]


def of_transport(counters: Mapping[str, int]) -> list[Metric]:
    """Metrics of the session implementation: bytes by direction, the other counters by name."""
    bytes_ = {key: counters.get(f"bytes_{key}", 0) for key in ("in", "out")}
    others = {key: value for key, value in counters.items() if key not in ("bytes_in", "bytes_out", *_GAUGES)}
    gauges = [
        single(f"mlnet_transport_{key}", text, counters[key])
        for key, text in _GAUGES.items()
        if key in counters
    ]
    return [
        Metric("mlnet_transport_bytes_total", "Bytes moved over all connections.", bytes_, "direction"),
        Metric("mlnet_transport_events_total", "Counters of the transport.", others, "event"),
        *gauges,
    ]


_GAUGES = {"memory": "Bytes in the transport's buffers.", "sessions": "Sessions that the transport carries."}
