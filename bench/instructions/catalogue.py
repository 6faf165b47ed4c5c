"""The workloads that have a baseline."""

from __future__ import annotations

from bench.instructions.workload import Workload

WORKLOADS = (
    Workload("head-bare", "bench.instructions.heads:bare_request"),
    Workload("head-browser", "bench.instructions.heads:browser_request"),
    Workload("head-30-fields", "bench.instructions.heads:thirty_fields_request"),
    Workload("head-response", "bench.instructions.heads:response"),
    Workload("forward-get", "bench.instructions.forward:browser_get"),
    Workload("forward-post-1k", "bench.instructions.forward:post_1k"),
    Workload("forward-get-logged", "bench.instructions.forward:logged_get"),
    Workload("pick-least-conn-2", "bench.instructions.picks:least_conn_2"),
    Workload("pick-least-conn-100", "bench.instructions.picks:least_conn_100"),
    Workload("pick-least-conn-1000", "bench.instructions.picks:least_conn_1000"),
    Workload("pick-round-robin-weighted", "bench.instructions.picks:weighted_round_robin"),
)
