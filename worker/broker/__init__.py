"""Messages and queues: which broker it is, how many wait, and a message as it came.

Front door: amqp_queues, copies, kind, message, original, own_queues, queues, receivers, request, requeue,
shared_queues, time_limits.
"""
