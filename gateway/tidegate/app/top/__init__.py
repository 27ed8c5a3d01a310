"""`tidegate top`: a running gateway on a terminal, from its /status.json."""
