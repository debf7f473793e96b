"""Sentry: one outage is one issue, and what is told leaks nothing. Nothing is imported without a DSN."""

from .agent import Agent as Agent
from .crons.windows import Windows as Windows
from .outages.ledger import Ledger as Ledger
