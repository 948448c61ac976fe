"""The errors that the command line prints as one line. Any other is ours to mend, and shows its traceback."""


class UserError(Exception):
    """Something that the user can mend; the message is one line that names the way out."""


class StageError(UserError, RuntimeError):
    """A stage cannot run or be trusted."""
