"""A command line comes in; an executed notebook, its page and an exit code go out."""
