"""Instructions per request, counted by valgrind: the same code gives the same count, whatever else the machine does.

Time says what users get, and varies by some percent from run to run; a count does not, so it can fail a build.
"""
