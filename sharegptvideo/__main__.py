"""`python -m sharegptvideo`: the same as the `sharegptvideo` script."""

from sharegptvideo.cli import main

main()
