"""The campaign behind `docs/explanation/reliability.md`: crashes, processes at once, hostile input.

Every module is one command, `python -m benchmarks.reliability.NAME`; the tests run short forms.
"""
