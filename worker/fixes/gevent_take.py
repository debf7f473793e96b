"""Note a message as unacknowledged in the same step that takes it from its queue (gevent, eventlet).

kombu takes a message by BRPOP and notes it as unacknowledged by a second command, once it has read the first
one's reply. In between the message is nowhere else, and a worker that is killed then takes it along. With an
event loop, whose MAIN does little else, that is a fraction of a millisecond. A pool of greenlets runs the
tasks in the same thread, and reads the reply when they let it: of six busy workers that were killed three had
lost a message.

Here a script does both at once. It cannot block, so an empty queue is waited for by a BRPOP of a key that
nobody writes, for a moment, before the script looks again.
"""

from __future__ import annotations

import inspect
import logging
import time
from typing import Any

from celery import bootsteps
from kombu.transport import redis
from kombu.transport.virtual import Empty
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import ResponseError

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.05
"""How long a worker waits with empty queues before it looks again: on average a message waits half of it."""

_NOBODYS_KEY = "celery-pymongo.nobody-writes-here"

# Takes the first message there is, and stores it as kombu's QoS.append does. What is no message of kombu's is
# handed out all the same, for kombu to complain about.
TAKE = """
for place = 3, #KEYS do
  local message = redis.call('RPOP', KEYS[place])
  if message then
    local is_ok, told = pcall(cjson.decode, message)
    local properties = is_ok and type(told) == 'table' and told.properties
    local where = properties and properties.delivery_info
    if where and properties.delivery_tag then
      local place_of_origin = cjson.encode(where.exchange) .. ', ' .. cjson.encode(where.routing_key)
      redis.call('ZADD', KEYS[1], ARGV[1], properties.delivery_tag)
      redis.call('HSET', KEYS[2], properties.delivery_tag, '[' .. message .. ', ' .. place_of_origin .. ']')
    end
    return {KEYS[place], message}
  end
end
return false
"""


def needed() -> bool:
    """Whether kombu still takes messages by BRPOP alone, in the form that is replaced here."""
    try:
        start, read = (inspect.getsource(redis.Channel._brpop_start), redis.Channel._brpop_read)
    except (AttributeError, OSError):
        return False
    return "'BRPOP', *keys" in start and "_deliver(loads(" in inspect.getsource(read)


class TakeAndNote(bootsteps.StartStopStep):
    """Replace how the consumer's channel takes messages; it ends with the connection, and begins anew."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, c: Any) -> bool:
        """Only where there is no event loop."""
        return c.hub is None

    def start(self, c: Any) -> None:
        channel = c.task_consumer.channel
        if isinstance(channel, redis.Channel):
            Taker(channel).begin()


class Taker:
    """Takes the messages of one channel: by the script, and by a wait after it found nothing."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._prefix: str = channel.global_keyprefix
        self._by_kombu = channel._brpop_start, channel._brpop_read
        self._is_waiting = False

    def begin(self) -> None:
        """Take the place of the channel's own way."""
        self._replace(self.start, self.read)

    def start(self) -> None:
        """Send the next command; the poller reads its reply."""
        channel = self._channel
        queues = channel._queue_cycle.consume(len(channel.active_queues))
        if not queues:
            return
        channel._in_poll = connection = channel.client.connection
        channel._brpop_sent_at = time.monotonic()
        if self._is_waiting:
            connection.send_command("BRPOP", self._prefix + _NOBODYS_KEY, WAIT_SECONDS)
            return
        lists = [channel._q_for_pri(queue, step) for step in channel.priority_steps for queue in queues]
        keys = [self._prefix + key for key in (channel.unacked_index_key, channel.unacked_key, *lists)]
        connection.send_command("EVAL", TAKE, len(keys), *keys, time.time())

    def read(self, **options: Any) -> bool:
        """Read the reply and deliver what it holds. Raises Empty, and the connection's errors."""
        channel = self._channel
        try:
            reply = self._reply(options)
            self._is_waiting = reply is None and not self._is_waiting
            if reply is None:
                raise Empty
            key, message = map(bytes_to_str, reply)
            queue = key.removeprefix(self._prefix).rsplit(channel.sep, 1)[0]
            channel._queue_cycle.rotate(queue)
            channel.connection._deliver(loads(message), queue)
            return True
        finally:
            channel._in_poll = None
            channel._flush_brpop_reauth()

    def _reply(self, options: dict[str, Any]) -> Any:
        channel = self._channel
        connection, command = channel.client.connection, "BRPOP" if self._is_waiting else "EVAL"
        try:
            return channel.client.parse_response(connection, command, **options) or None
        except channel.connection_errors:
            # The next round connects again.
            connection.disconnect()
            raise
        except ResponseError as error:
            # A user who may not run scripts.
            logger.warning(
                "Redis refuses a script, messages are taken in kombu's way: %s", type(error).__name__
            )
            self._replace(*self._by_kombu)
            return None

    def _replace(self, start: Any, read: Any) -> None:
        channel = self._channel
        channel._brpop_start, channel._brpop_read = start, read
        channel.handlers["BRPOP"] = read
