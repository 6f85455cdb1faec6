"""What ends a command in one line. Imports nothing."""


class CifarJaxError(Exception):
    """A failure in words: one line that names the thing, the requirement and the value.

    Attributes:
      status: of the command that it ends: 1 for a run that failed, 2 for what the user has to put
        right.
    """

    status = 1


class ConfigError(CifarJaxError):
    """A configuration that cannot be run: names the field, the requirement and the value."""

    status = 2


def one_line(error: object) -> str:
    """What an error says, without line breaks; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def printable(text: str) -> str:
    """Text for one line of a terminal: what is not printed stands as Python writes it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def line_with_type(error: BaseException) -> str:
    """The same after the error's type, for errors of any kind."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def shown(value: object) -> str:
    """A value as a message shows it: its first 40 characters."""
    try:
        return f"{value!r:.40}"
    except Exception:  # of a number of thousands of digits, for one, or of a user's class
        return f"a value of type {type(value).__name__} that cannot be printed"
