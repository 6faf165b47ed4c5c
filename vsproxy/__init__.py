"""vsproxy: a Layer-7 load balancer on asyncio. `Proxy` runs in any loop, `Config` says what it does."""

from vsproxy.config.model import Config
from vsproxy.errors import ConfigError, VsproxyError
from vsproxy.proxy import Proxy

__all__ = ["Config", "ConfigError", "Proxy", "VsproxyError"]
