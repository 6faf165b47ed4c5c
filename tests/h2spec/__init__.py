"""Conformance of an HTTP/2 server, case by case: `python -m h2spec HOST PORT`, and a test of vsproxy.

The cases are those that the program h2spec (summerwind/h2spec 2.6) has for servers, under its numbers, written anew
from RFC 9113, 7540 and 7541: 146, and one more that it runs when told to be strict. The suite finds what that program
is known to find: nothing in HAProxy 2.6, 26 cases in nginx 1.22 (2 of them skipped here, since a frame cannot be larger
than what nginx announces).
"""
