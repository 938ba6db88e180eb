"""Serves one function over HTTP: a supervisor watches and replaces the runner that answers."""
