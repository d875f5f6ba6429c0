"""What is due of each network, in which order."""
