"""All live processes of a deployment: the registry, totals, snapshots and their history.

Front door: beat_pulse, bounded, drill_notes, fleet, history, node_record, own_collections, registry,
snapshot, timeline, totals.
"""
