"""Metrics of all requests, in Prometheus format for /metrics. They contain no text and no names of clients."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lmtune.serving.models import Models

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
ROUTES = ("/", "/health", "/metrics", "/openapi.json", "/v1/completions", "/v1/models", "/v2/runs", "/v2/users/me")


class Metrics:
    """Counters of one server."""

    def __init__(self, models: Models) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._count("requests", "Requests by path and status.", ("path", "status"))
        self.prompt_tokens = self._count("prompt_tokens", "Tokens of prompts that were read.", ("model",))
        self.written_tokens = self._count("generated_tokens", "Tokens that were written.", ("model",))
        self.first = self._measure("time_to_first_token_seconds", "From the request to the first token of its text.")
        self.seconds = self._measure("request_seconds", "From a request for texts to the end of its answer.")
        for name, text, read in (
            ("running_texts", "Texts that are being written.", lambda: models.running),
            ("waiting_texts", "Texts that have not begun.", lambda: models.waiting),
        ):
            Gauge(f"lmtune_{name}", text, registry=self.registry).set_function(read)

    def note(self, path: str, status: int) -> None:
        """Count a request. Unknown paths are counted together."""
        self.requests.labels(path if path in ROUTES else "other", str(status)).inc()

    def total(self, counter: Counter) -> int:
        """The sum of a counter over its labels."""
        return round(
            sum(
                sample.value
                for metric in counter.collect()
                for sample in metric.samples
                if sample.name.endswith("_total")
            )
        )

    def render(self) -> bytes:
        """The text of /metrics."""
        return generate_latest(self.registry)

    def _count(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"lmtune_{name}", text, labels, registry=self.registry)

    def _measure(self, name: str, text: str) -> Histogram:
        return Histogram(f"lmtune_{name}", text, buckets=SECONDS, registry=self.registry)
