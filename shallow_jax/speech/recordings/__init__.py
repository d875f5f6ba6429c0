"""From recordings to frames, phones and times."""
