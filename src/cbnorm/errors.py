"""The one exception that people see: a single line that says what is wrong and what to do."""


class CbnormError(Exception):
    """A mistake in what was asked or given, told in one line.

    The command line prints it without a traceback (``--debug`` shows one) and exits with
    :attr:`exit_code`. Library code (:mod:`cbnorm.norms`, :mod:`cbnorm.mixtures`) raises
    :class:`ValueError` and :class:`TypeError` instead, as torch does.
    """

    exit_code = 2

    def __str__(self) -> str:
        """The line; signs that can't be printed, which the input may hold, are shown as escapes."""
        text = super().__str__()
        return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def unexpected(error: BaseException) -> str:
    """The line for an error that nobody thought of."""
    text = (str(error).splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {text[:300]} (--debug shows where; finished runs are safe)"
