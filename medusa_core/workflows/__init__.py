"""One function a verb, behind the command line and the Python interface alike.

They return what `--json` prints. Import the modules: this file stays light.
"""
