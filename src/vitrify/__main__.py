"""`python -m vitrify` is `vitrify`."""

from vitrify.cli import main

main()
