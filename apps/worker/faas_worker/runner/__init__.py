"""One process that loads the handler and answers."""
