"""The proxies that are compared, each a module with its configuration beside it."""
