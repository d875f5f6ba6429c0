"""What goes wrong by no fault of the code: told in one line, without a traceback."""


class ExpectedError(Exception):
  """What a user can put right; its message is one line, which the command ends with."""


class DataError(ExpectedError, ValueError):
  """Data that is missing or wrong; its one line says where, what is there and what is expected."""
