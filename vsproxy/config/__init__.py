"""The configuration: what may be said in the file, and how it is read."""

from vsproxy.config.model import Config

__all__ = ["Config"]
