"""What the command line prints as one line: everything else is a fault of ours, and shows its traceback."""


class UserError(Exception):
    """Something that the user can mend; the message is one line that names the way out."""
