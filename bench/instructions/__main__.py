"""`python -m bench.instructions`."""

import sys

from bench.instructions.cli import main

sys.exit(main(sys.argv[1:]))
