"""What can go wrong, as one tree.

RegdataError
├── ConfigError      conf.json, or a parameter of a notebook or of clear.py
├── ConditionError   an SQL condition
├── RegistryError    the registry's HTTP API: down, refusing, or not telling the truth
│   └── AccessError  it does not let us: no credentials, wrong ones, or a right is missing
├── StorageError     the registry's folder (``base_path``) or a run's own files
└── CleanupError     a clean-up that was refused or went wrong

Every message is one sentence or two: what is wrong, where, and how to cure it. It may hold strangers' words, such as
a repository's name, and values from the environment: it is shown without what steers a terminal, and as conf.json says.
"""

from regdata.plain import plain


class RegdataError(Exception):
    """Base of every error that regdata raises on purpose."""

    def __str__(self) -> str:
        return plain(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback: the error is the last and only line."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(RegdataError):
    """conf.json or a parameter is missing, malformed or unknown."""


class ConditionError(RegdataError):
    """A condition is not valid SQL, not BOOLEAN, or took too long; ``said``: why, without condition and cure."""

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = plain(said or message)


class RegistryError(RegdataError):
    """The registry can't be reached, refuses, or answers what can't be true; ``kind``: late where the answer was not
    there in time, unbounded where it was larger than such answers are, away where the server to which the registry
    redirects can't be asked, else empty."""

    kind = ""


class AccessError(RegistryError):
    """The registry or its token server does not let us: no credentials, wrong ones, or a right is missing."""


class StorageError(RegdataError):
    """base_path is not a registry's folder, or a file can't be read or written."""


class CleanupError(RegdataError):
    """A clean-up was refused, or did not end as it was planned."""
