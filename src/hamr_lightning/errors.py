"""The base of the errors that a command shows without a traceback."""


class UserError(ValueError):
    """A mistake that the user can mend; the message says where it is and how."""
