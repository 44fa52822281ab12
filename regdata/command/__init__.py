"""A command line comes in; an executed notebook, its page and an exit code go out."""

import sys

# jsonschema would load it to check addresses, of which a notebook's schema has none: it takes as long to load as
# papermill and nbconvert do.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
