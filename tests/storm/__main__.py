"""`python -m storm`: a storm of many rounds, and its table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import uvloop

from storm.report import report
from storm.run import Options, blow


def main() -> int:
    """Blow, tell, and fail if there is anything to explain."""
    parser = argparse.ArgumentParser(prog="storm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="rounds of half a minute")
    parser.add_argument("--no-kills", action="store_true", help="leave workers and control alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        options = Options(rounds=arguments.rounds, kill_processes=not arguments.no_kills)
        result = uvloop.run(blow(Path(directory), options))
    print(report(result))
    wrong = [*result.verdict.unexplained, *result.verdict.sent_twice, *result.ledger.disappointments]
    wrong += [reload for reload in result.ledger.reloads if reload.mistake]
    for one in wrong:
        print(one, file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
