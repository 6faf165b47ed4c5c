"""A storm over the running command: real servers and clients while it is reloaded and its processes die.

The normal suite runs one round, about half a minute. A longer storm, with the same table at its end:

    VSPROXY_STORM_ROUNDS=10 python -m pytest -s tests/storm/test_storm.py
    PYTHONPATH=tests python -m storm --rounds 10

and nginx under the same servers, clients and reloads, for comparison:

    PYTHONPATH=tests python -m storm.against_nginx

`run.py` puts a storm together and `report.py` says how it went. `verdict.py` is the accounting: which
failures a killed process explains. Everything else is either a cause of trouble or a witness of it.
"""
