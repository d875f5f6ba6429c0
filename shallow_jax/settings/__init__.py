"""Every key of an experiment, its default, and what is refused."""
