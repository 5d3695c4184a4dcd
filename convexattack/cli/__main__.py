"""`python -m convexattack.cli`."""

from convexattack.cli import main

main()
