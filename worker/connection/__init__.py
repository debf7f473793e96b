"""A process's link to MongoDB: heartbeats open its circuit, the reconnector closes it again.

Front door: background, circuit, client, link, node_peers.
"""
