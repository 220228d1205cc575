"""Why a source gave nothing."""


class SourceError(Exception):
    """A source could not be used; the text says why, so that the next one can be tried."""
