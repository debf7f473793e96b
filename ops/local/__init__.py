"""Development only: servers of our own on loopback ports, and the supervisor behind `ops/up`."""
