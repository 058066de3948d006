"""Errors for people: what is wrong, where, and what to do about it."""


class TracetuneError(Exception):
    """An error whose message a user can act on.

    Args:
        what: What is wrong and why, in one sentence.
        where: The place: a file and line, a parameter, a row id.
        remedy: What to do next.
    """

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        parts = [f"{where}: {what}" if where else what]
        if remedy:
            parts.append(f"What to do: {remedy}")
        super().__init__("\n".join(parts))


class ConfigurationError(TracetuneError):
    """A parameter, credential or catalog entry is wrong."""


class DataError(TracetuneError):
    """Rows, tables or files are missing, broken or contradict each other."""


class ServerError(TracetuneError):
    """A server was unreachable, refused the request or gave an incomplete answer."""


class GateError(TracetuneError):
    """A preflight gate or an invariant stopped the run before something costly or wrong."""


class ResumeError(TracetuneError):
    """Work in progress belongs to another job, so it is not continued."""
