"""Only this: VSPROXY_UNCOMPILED=1 leaves the compiled modules out. All else is in pyproject.toml.

Uncompiled is chosen, never fallen into: without the variable, a failed compile fails the build.
"""

import os

from setuptools import Distribution, setup


class Uncompiled(Distribution):
    """A distribution without ext-modules; they are known only once pyproject.toml has been read."""

    def parse_config_files(self, *args, **kwargs):
        super().parse_config_files(*args, **kwargs)
        self.ext_modules = None


chosen = os.environ.get("VSPROXY_UNCOMPILED", "")
if chosen not in ("", "0", "1"):
    raise SystemExit(f"VSPROXY_UNCOMPILED={chosen}: 1 leaves the compiled modules out, 0 or nothing compiles them")
setup(**({"distclass": Uncompiled} if chosen == "1" else {}))
