"""Devices, processes, files and this machine: knows nothing of nets."""
