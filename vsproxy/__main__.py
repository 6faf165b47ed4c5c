"""`python -m vsproxy` is the command `vsproxy`."""

from vsproxy.cli import main

if __name__ == "__main__":
    main()
