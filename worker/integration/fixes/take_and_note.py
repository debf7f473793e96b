"""Note a message as unacknowledged in the same step that takes it from its queue.

kombu takes a message by BRPOP and notes it as unacknowledged by a second command, once it has read the first
one's reply. In between the message is nowhere else: a worker that is killed then takes it along, and so does
a connection that is lost with the reply on its way. Under load that was every second kill of a prefork MAIN.

Here a script does both at once. It cannot block. Where it finds nothing the connection has Redis report the
next change of any of the lists (CLIENT TRACKING, made for caches), which takes nothing and costs nothing
until a message comes. Every worker that waits hears of it, and one of them gets it: the others ask again, but
look in vain no more than 20 times a second.

Only the channel that the worker consumes from is touched, object by object, as in `redis_restart`. Its lists
and its notes are kombu's own, so workers without this fix share its queues.
"""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import Callable, Sequence
from enum import Enum
from hashlib import sha1
from typing import Any

import redis as redis_py
from celery import bootsteps
from kombu.transport import redis, virtual
from kombu.transport.virtual import Empty
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from ..versions import parsed

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.05
"""The shortest time between two looks in vain; between any two looks where Redis reports no changes."""

_NEVER_WRITTEN = "celery-pymongo.never-written"

# Takes the first message there is, and stores it as kombu's QoS.append does, but for where it goes back to:
# the very queue it came from. By its exchange it would go to every queue that is bound, and nowhere at all
# where the binding is gone. To decode its body, a single string, would cost more than all else; kombu writes
# it first, and mostly in base64. What is no message of kombu's is returned for kombu to complain about.
TAKE = """
local function without_body(message)
  if string.sub(message, 1, 10) == '{"body": "' then
    local quote = string.find(message, '"', 11, true)
    if quote and string.byte(message, quote - 1) ~= 92 then
      return '{"body": ""' .. string.sub(message, quote + 1)
    end
  end
  return message
end
for place = 3, #KEYS do
  local message = redis.call('RPOP', KEYS[place])
  if message then
    local queue = ARGV[2 + (place - 3) % (#ARGV - 1)]
    local is_json, decoded = pcall(cjson.decode, without_body(message))
    local properties = is_json and type(decoded) == 'table' and decoded.properties
    local origin = type(properties) == 'table' and properties.delivery_info
    local tag = type(origin) == 'table' and properties.delivery_tag
    if type(tag) ~= 'string' then
      return {queue, message, ''}
    end
    redis.call('ZADD', KEYS[1], ARGV[1], tag)
    redis.call('HSET', KEYS[2], tag, '[' .. message .. ', "", ' .. cjson.encode(queue) .. ']')
    return {queue, message, tag}
  end
end
return false
"""
_BY_NAME = "EVALSHA", sha1(TAKE.encode(), usedforsecurity=False).hexdigest()
_BY_TEXT = "EVAL", TAKE


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

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        self._taker: Taker | None = None

    def start(self, c: Any) -> None:
        """Leave other brokers alone, and a Redis whose messages kombu does not note either."""
        channel = c.task_consumer.channel
        is_redis = isinstance(channel, redis.Channel) and isinstance(channel.qos, redis.QoS)
        if is_redis and not c.task_consumer.no_ack:
            unread = None if self._taker is None else self._taker.unread
            self._taker = Taker(channel, unread=unread)
            self._taker.begin()


class _Step(Enum):
    """What a taker sends."""

    TAKE = "take"
    TRACK = "track"
    PAUSE = "pause"


class Taker:
    """Takes the messages of one channel: by the script, and by waiting after it found nothing.

    `unread` is what the taker of the connection before left: see the attribute.
    """

    def __init__(self, channel: Any, *, unread: float | None = None) -> None:
        self.unread = unread
        """When the script was sent whose reply is not read: its message is noted with this very time."""
        self._channel = channel
        self._prefix: str = channel.global_keyprefix
        self._by_kombu = channel._brpop_start, channel._brpop_read, channel.qos.append
        self._script = _BY_NAME
        self._step = _Step.TAKE
        self._replies = 0
        self._queues: Sequence[str] = ()
        # Those of each priority, in the order of the queues.
        self._lists: Sequence[str] = ()
        self._can_track = True
        # The socket on which Redis reports changes, and until when that is relied on.
        self._tracked_on: Any = None
        self._waits_until = 0.0
        # Whether a change brought the script, and when one did in vain.
        self._is_woken = False
        self._in_vain_at = 0.0
        self._noted: str | None = None

    def begin(self) -> None:
        """Take the place of the channel's own way."""
        _speak_resp3(self._channel)
        self._replace(self.start, self.read, self.append)

    def start(self) -> None:
        """Send what comes next; the poller reads the reply. Called in each round in which none is awaited."""
        channel = self._channel
        queues = channel._queue_cycle.consume(len(channel.active_queues))
        if not queues:
            return
        if self.unread is not None:
            self._return_unread()
        names = [channel._q_for_pri(queue, step) for step in channel.priority_steps for queue in queues]
        lists = [self._prefix + name for name in names]
        is_tracked = self._tracked_on is not None and self._tracked_on is channel.client.connection._sock
        if is_tracked and lists == self._lists and time.monotonic() < self._waits_until:
            return
        self._queues, self._lists, self._waits_until = queues, lists, 0.0
        {_Step.TAKE: self._take, _Step.TRACK: self._track, _Step.PAUSE: self._pause}[self._step](is_tracked)

    def read(self, **_options: Any) -> bool:
        """Read the reply and deliver what it holds. Raises Empty, and the connection's errors."""
        channel = self._channel
        connection = channel.client.connection
        try:
            taken = self._read(connection)
        except channel.connection_errors:
            # The next round connects again.
            connection.disconnect()
            raise
        finally:
            channel._in_poll = None
            # A login that was renewed meanwhile, which kombu has known since 5.7.
            getattr(channel, "_flush_brpop_reauth", bool)()
        if taken is None:
            raise Empty
        self._deliver(*map(bytes_to_str, taken))
        return True

    def append(self, message: Any, delivery_tag: str) -> None:
        """Count a message as delivered; what the script took is noted already."""
        if delivery_tag == self._noted:
            self._noted = None
            virtual.QoS.append(self._channel.qos, message, delivery_tag)
        else:
            self._by_kombu[2](message, delivery_tag)

    # --- what is sent ---

    def _take(self, is_tracked: bool) -> None:
        channel = self._channel
        keys = [self._prefix + channel.unacked_index_key, self._prefix + channel.unacked_key, *self._lists]
        self.unread = time.time()
        script = (*self._script, len(keys), *keys, self.unread, *self._queues)
        # No reports from here on: kombu drops a connection that speaks while it may not take a message.
        self._tracked_on = None
        self._send(("CLIENT", "TRACKING", "OFF"), script) if is_tracked else self._send(script)

    def _track(self, is_tracked: bool) -> None:
        read = ("EXISTS", *self._lists)
        self._send(read) if is_tracked else self._send(("CLIENT", "TRACKING", "ON"), read)
        if not is_tracked:
            self._tracked_on = self._channel.client.connection._sock

    def _pause(self, _is_tracked: bool) -> None:
        # Of different length, or those that a message woke together would be woken together by the next.
        factor = random.uniform(0.5, 1.5) if self._can_track else 1.0  # noqa: S311 - no secret hangs on it
        self._send(("BRPOP", self._prefix + _NEVER_WRITTEN, WAIT_SECONDS * factor))

    def _send(self, *commands: tuple[Any, ...]) -> None:
        channel = self._channel
        channel._in_poll = connection = channel.client.connection
        channel._brpop_sent_at = time.monotonic()
        self._replies = len(commands)
        connection.send_packed_command(connection.pack_commands(commands))

    # --- what is read ---

    def _read(self, connection: Any) -> Any:
        """Return what was taken, if anything, and decide what is sent next."""
        if not self._replies:
            connection.read_response(push_request=True)
            self._wake()
            return None
        replies = [_reply(connection) for _ in range(self._replies)]
        self._replies = 0
        if self._step is _Step.TAKE:
            self.unread = None
            return self._refused(replies[-1]) if _is_error(replies[-1]) else self._took(replies[-1])
        if self._step is _Step.TRACK:
            self._tracking(replies, connection)
        else:
            self._step = _Step.TRACK if self._can_track else _Step.TAKE
        return None

    def _took(self, reply: Any) -> Any:
        self._script = _BY_NAME
        if not reply:
            now = time.monotonic()
            is_too_soon = self._is_woken and now - self._in_vain_at < WAIT_SECONDS
            self._step = _Step.TRACK if self._can_track and not is_too_soon else _Step.PAUSE
            self._in_vain_at = now if self._is_woken else self._in_vain_at
        self._is_woken = False
        return reply or None

    def _refused(self, error: ResponseError) -> None:
        if isinstance(error, NoScriptError):
            self._script = _BY_TEXT
        elif isinstance(error, NoPermissionError) or "unknown command" in str(error):
            message = "Redis refuses a script (%s): messages are taken in kombu's way, which a kill can lose"
            logger.warning(message, type(error).__name__)
            self._replace(*self._by_kombu)
        else:
            raise error

    def _tracking(self, replies: Sequence[Any], connection: Any) -> None:
        errors = [reply for reply in replies if _is_error(reply)]
        if errors:
            message = "Redis reports no changes (%s): messages are looked for every %.0f ms"
            logger.info(message, type(errors[0]).__name__, WAIT_SECONDS * 1e3)
            self._can_track, self._tracked_on, self._step = False, None, _Step.PAUSE
        # A report that came meanwhile may be read from the socket already: no poller would see it.
        elif replies[-1] or connection.can_read(timeout=0):
            self._wake()
        else:
            self._waits_until = time.monotonic() + (self._channel.brpop_timeout or 1.0)

    def _wake(self) -> None:
        self._step, self._is_woken, self._waits_until = _Step.TAKE, True, 0.0

    def _deliver(self, queue: str, message: str, tag: str) -> None:
        channel = self._channel
        channel._queue_cycle.rotate(queue)
        self._noted = tag or None
        try:
            channel.connection._deliver(loads(message), queue)
        except channel.connection_errors:
            raise
        except Exception:
            # What kombu cannot read fails the worker, as ever. It must not come back to fail the next one.
            if self._noted is not None:
                channel.qos._remove_from_indices(self._noted).execute()
            raise
        finally:
            self._noted = None

    def _return_unread(self) -> None:
        """Give back what the script took where the connection was lost with its reply."""
        qos = self._channel.qos
        with self._channel.conn_or_acquire() as client:
            for tag in _noted_at(client, qos.unacked_index_key, self.unread):
                qos.restore_by_tag(tag, client)
        self.unread = None

    def _replace(
        self, start: Callable[..., Any], read: Callable[..., Any], append: Callable[..., Any]
    ) -> None:
        channel = self._channel
        channel._brpop_start, channel._brpop_read, channel.qos.append = start, read, append
        channel.handlers["BRPOP"] = read


def _noted_at(client: Any, index: str, at: float | None) -> Any:
    """Return the tags noted at this time, by a command that this kombu gives its keys' prefix."""
    if "ZRANGE" in redis.GlobalKeyPrefixMixin.PREFIXED_SIMPLE_COMMANDS:
        return client.zrange(index, at, at, byscore=True)
    return client.zrevrangebyscore(index, at, at)  # before kombu 5.7


def _reply(connection: Any) -> Any:
    """Return the next reply, an error too: the one after it must be read as well."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _is_error(reply: Any) -> bool:
    return isinstance(reply, ResponseError)


def _speak_resp3(channel: Any) -> None:
    """Have the client's connection speak RESP3, in which Redis may report unasked; redis-py 8 does anyway."""
    client = channel.client
    if client.connection is None:
        # redis-py asks for a command's name before 5.3, and warns of one since.
        name = ("CLIENT",) if parsed(redis_py.__version__) < (5, 3) else ()
        client.connection = client.connection_pool.get_connection(*name)
    if str(client.connection.get_protocol()) != "3":
        _hang_up(channel, client.connection)
        client.connection.protocol = 3


def _hang_up(channel: Any, connection: Any) -> None:
    """End a connection that kombu's poller may know already.

    Before kombu 5.7 its own way would take the poller out of the event loop for good.
    """
    cycle = channel.connection.cycle
    sock = cycle._chan_to_sock.pop((channel, channel.client, "BRPOP"), None)
    if sock is not None:
        cycle._fd_to_chan.pop(sock.fileno(), None)
        cycle.poller.unregister(sock)
    super(type(connection), connection).disconnect()
    channel._in_poll = None
