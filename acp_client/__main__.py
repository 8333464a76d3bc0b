"""`python -m acp_client` is `acp exec`."""

import sys

from .cli.exec import main

if __name__ == "__main__":
    sys.exit(main())
