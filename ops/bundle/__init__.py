"""One archive of an incident: what every command finds, and none of the secrets that the settings hold."""
