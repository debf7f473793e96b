"""MongoTask: how a task runs, what becomes of it when MongoDB fails, and the dead letters.

Front door: deliveries, failures, stores, task.
"""
