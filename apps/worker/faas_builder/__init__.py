"""Builds a layer: turns requirements into a lock, and a lock into a folder of packages."""
