"""The runs behind the numbers in the README, each one command: `python -m benchmarks.NAME`."""
