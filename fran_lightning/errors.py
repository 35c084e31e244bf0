"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """A mistake that the user can put right.

    The message is one line that says what is wrong and what to do. ``fran`` prints it on stderr without a
    traceback and exits with status 2.
    """
