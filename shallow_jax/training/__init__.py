"""The one loop: a net fitted to targets."""
