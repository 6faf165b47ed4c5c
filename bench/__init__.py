"""What vsproxy costs, beside nginx, HAProxy, Envoy and Caddy: `python -m bench`."""
