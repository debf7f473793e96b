"""Every setting in one frozen object: where it comes from, what is wrong with it, what nobody must see of it.

Front door: client_options, fields, redact, schedule, secret_values, types, uris.
"""
