"""The error and the warning that a user is meant to see."""


class MvaiError(Exception):
    """Bad input or an impossible request, said in one sentence.

    The message names the file, what is wrong with it and what to do. The command line
    prints it without a traceback and exits with code 2; library callers may catch it.
    """


class NobodyError(MvaiError):
    """A video shows nobody, or too little of a person to work with."""


class MvaiWarning(UserWarning):
    """Something was left out or guessed, said in one sentence; the command line prints it."""
