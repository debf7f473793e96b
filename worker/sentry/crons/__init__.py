"""Sentry Crons: check-ins of beat's entries, those of short intervals window by window."""
