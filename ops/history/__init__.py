"""What the fleet was: metrics of its history, the gaps and outages in it, and how they are shown."""
