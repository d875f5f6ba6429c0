"""The mistakes of a user's data: told in one line, without a traceback."""


class DataError(ValueError):
  """Data that is missing or wrong; its one line says where, what is there and what is expected."""
