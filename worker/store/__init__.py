"""Redis as a place for records: the client, its errors in words, and the one reader of what stands there.

Front door: app_redis, exact_json, record_shapes, records, redis_client, redis_errors, redis_server.
"""
