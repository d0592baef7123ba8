import json

import pytest

from medusa_core.cli import main


@pytest.fixture
def medusa(capsys):
    """Runs a command line in this process: `(exit code, stdout, stderr)`; `.json` parses."""

    class Runner:
        def __call__(self, *args):
            code = main([str(arg) for arg in args])
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        def json(self, *args):
            code, out, err = self(*args, "--json")
            assert code == 0, err
            return json.loads(out)

    return Runner()
