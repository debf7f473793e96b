"""What a MongoDB server says when it is asked: a ping, its members, its connections, why TLS fails.

Front door: connections, info, members, pings, set_names.
"""
