"""`python -m regdata …` is `regdata …`."""

import sys

from regdata.command.main import main

if __name__ == "__main__":
    sys.exit(main())
