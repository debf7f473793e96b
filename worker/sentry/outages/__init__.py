"""One outage is one issue for the whole fleet: its state, what the fleet shares of it, and its one sender."""
