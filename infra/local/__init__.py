"""Real servers as child processes: what compose runs in containers, without containers."""
