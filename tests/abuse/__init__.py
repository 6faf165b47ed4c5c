"""What a client of HTTP/2 can do to others, each against a running vsproxy that others use meanwhile."""
