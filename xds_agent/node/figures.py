"""What the agent counts of itself, and which of Envoy's statistics /metrics shows beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from xds_agent.node.datapath import DatapathLink

# Regular expression over Envoy's statistic names (in Envoy's own form, before tags are cut out).
ENVOY_STATS = (
    r"^(server\.(live|uptime|concurrency|memory_.*|total_connections|days_until_first_cert_expiring|hot_restart.*)"
    r"|overload\..*"
    r"|listener_manager\.(total_listeners_.*|listener_create_.*|lds\.update_.*)"
    r"|cluster_manager\.(active_clusters|warming_clusters|cluster_.*|cds\.update_.*)"
    r"|control_plane\.connected_state"
    r"|listener\..*\.(downstream_cx_(total|active|overflow|overload_reject|destroy)"
    r"|downstream_global_cx_overflow|ssl\.(handshake|connection_error|fail_verify.*|no_certificate)"
    r"|no_filter_chain_match)"
    r"|http\..*\.(downstream_rq_(total|active|time|timeout|[1-5]xx|too_many_premature_resets|overload_close)"
    r"|downstream_cx_(total|active|http1_total|http2_total))"
    r"|tcp\..*\.(downstream_cx_(total|rx_bytes_total|tx_bytes_total)|max_downstream_connection_duration)"
    r"|udp\..*"
    r"|cluster\..*\.(upstream_rq_(total|active|time|timeout|retry|[1-5]xx|pending_overflow)"
    r"|upstream_cx_(total|active|connect_fail|overflow)|membership_(total|healthy|degraded)"
    r"|health_check\.(success|failure)|outlier_detection\.ejections_active))$"
)


class Figures:
    """Our own metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.applied = Counter(
            "marchproxy_revisions",
            "Revisions that came, by what became of them",
            ["outcome"],
            registry=registry,
        )
        self.apply_seconds = Histogram(
            "marchproxy_apply_seconds", "From a whole revision to Envoy serving it", registry=registry,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
        )  # fmt: skip
        self.control_connected = Gauge(
            "marchproxy_control_connected", "1 while a stream to a control host is open", registry=registry
        )
        self.envoy_live = Gauge("marchproxy_envoy_live", "1 while Envoy says LIVE", registry=registry)
        self.resources = Gauge("marchproxy_resources", "Resources held, by type", ["type"], registry=registry)
        self.journal_bytes = Gauge(
            "marchproxy_journal_bytes", "Size of the journal on disk", registry=registry
        )
        self.certificate_not_after = Gauge(
            "marchproxy_certificate_not_after_seconds",
            "End of this host's certificate, Unix time",
            registry=registry,
        )
        self.active = Gauge(
            "marchproxy_active_revision_number", "Number of the revision Envoy serves", registry=registry
        )
        self.sent = Counter(
            "marchproxy_resources_sent", "Resources sent to Envoy, also unchanged ones", registry=registry
        )

    def show_datapath(self, link: DatapathLink) -> None:
        """Count the datapath's packets too, read from its maps when somebody asks."""
        from xds_agent.node.datapath.figures import DatapathFigures

        self.registry.register(DatapathFigures(link))
