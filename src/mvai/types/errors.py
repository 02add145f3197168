"""The one error a user is meant to see."""


class MvaiError(Exception):
    """Bad input or an impossible request, said in one sentence.

    The message names the file, what is wrong with it and what to do. The command line
    prints it without a traceback and exits with code 2; library callers may catch it.
    """
