"""What an operator runs: command-line tools around the app, and `local`, servers for a laptop."""
