"""`python -m medusa_core` is `medusa`."""

import sys

from medusa_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
