"""What the facts mean: layers, the verdict, and everything that can be known of the fleet.

Front door: facts, node_view, watch.
"""
