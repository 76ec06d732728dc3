"""One MQTT connection, from CONNECT to its end; the only module that imports paho.

Each connection is a paho client of its own on a thread of its own, so nothing (packet ids, queued
messages, a dead socket) outlives it by accident.  The thread only ever posts into the asyncio
loop; all other state belongs to the loop.  What we do ourselves, and why paho doesn't:

* the window of unacknowledged messages: paho ignores the broker's Receive Maximum;
* acknowledging: paho would do it before the message was dealt with.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from plantfed_shared.bus.inbox import Inbox
from plantfed_shared.bus.port import (
    CONNACK_BYTES,
    MAX_MESSAGE_BYTES,
    PING_BYTES,
    PUBACK_BYTES,
    QOS,
    BrokerAddress,
    Disconnected,
    Refused,
    SessionSettings,
    connect_bytes,
    listen_bytes,
    publish_bytes,
    stop_listening_bytes,
    subscribe_bytes,
)
from plantfed_shared.bus.receipts import Receipts
from plantfed_shared.bus.reconnect import End
from plantfed_shared.bus.sending import Outgoing, SendWindow
from plantfed_shared.bus.tls import explain_alert, explain_failure, tls_context
from plantfed_shared.errors import ConfigError

log = logging.getLogger("plantfed.bus")

CLOSE_WAIT_S = 2.0
"""For all of an end in good order: a service that is told to stop has five seconds."""
SESSION_EXPIRY_S = 7 * 86400
IN_FLIGHT = 20
"""Unacknowledged messages at most; fewer where the broker's Receive Maximum says so."""
RECEIVE_AT_MOST = 128
"""Those a coordinator takes, where it is MQTT 5: as many as two commits; mosquitto gives 20."""

HEADROOM_BYTES = 1024
"""What a topic and the packet's own fields may need of a broker's Maximum Packet Size."""
LEAST_PACKET_BYTES = HEADROOM_BYTES + 512
"""With less not even what is no content of anything could be said."""

_PINGS = {"Sending PINGREQ": (PING_BYTES, 0), "Received PINGRESP": (0, PING_BYTES)}
"""Lines of paho's log, and the bytes out and in that they stand for."""
_VERSION_REFUSED = "Unsupported protocol version"
_TAKEN_OVER = "Session taken over"
_IDENTITY_REFUSED = {
    "Bad user name or password": "the broker refused the user name or password",
    "Not authorized": "the broker does not authorise this user",
    "Client identifier not valid": "the broker refused the client id",
    "Bad authentication method": "the broker wants another way to authenticate",
    "Banned": "the broker has banned this client",
}


class Connection:
    """One connection from CONNECT to its end.

    Methods named ``_on_...`` run on the thread and only post; all others run in the loop.
    """

    def __init__(
        self,
        address: BrokerAddress,
        session: SessionSettings,
        inbox: Inbox,
        *,
        mqtt5: bool,
        admits: Callable[[str, int], bool] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Task[End]  # from start() on
        self.ready = False
        self.stood_s = 0.0
        self.sending = SendWindow(self._send, IN_FLIGHT, log.warning)
        self._address = address
        self._session = session
        self._inbox = inbox
        self._mqtt5 = mqtt5
        self._admits = admits
        self._ready_at = 0.0
        self._early: list[tuple[str, bytes, bool, int]] = []
        self._steps: asyncio.Queue[tuple[Callable[..., None], tuple[object, ...]]] = asyncio.Queue()
        self._end: End | None = None
        self._receipts = Receipts()
        self._asked: dict[int, str] = {}
        # Only the thread touches these nine.
        self._subscribed = not session.subscriptions
        self._fixed: int | None = None
        self._granted = (IN_FLIGHT, MAX_MESSAGE_BYTES)
        self._why: Disconnected | Refused | None = None
        self._version_refused = False
        self._taken_over = False
        self._answered = False
        self._let_in = False
        self._complaint = ""
        # The loop sets this one for the thread.
        self._abandoned = False
        self._client = self._make_client()
        self._thread = threading.Thread(
            target=self._on_thread, name=f"mqtt {session.client_id}", daemon=True
        )

    def start(self) -> None:
        """Connect on the thread; the task :attr:`ended` tells how it went in the end."""
        self.ended = asyncio.create_task(self._work())
        self._thread.start()

    def acknowledge(self, token: int) -> None:
        """Send the PUBACK of a message that came on this connection."""
        packet_id = self._receipts.take(token)
        if packet_id:
            self._inbox.traffic.bytes_out += PUBACK_BYTES
            self._client.ack(packet_id, QOS)

    def listen(self, topic: str) -> None:
        """Send a SUBSCRIBE for one topic."""
        result, packet_id = self._client.subscribe(topic, QOS)
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS and packet_id is not None:
            self._asked[packet_id] = topic

    def stop_listening(self, topic: str) -> None:
        """Send an UNSUBSCRIBE for it."""
        result, _ = self._client.unsubscribe(topic)
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._count_session(*stop_listening_bytes(topic, mqtt5=self._mqtt5))

    async def close(self) -> None:
        """End it in good order, or after :data:`CLOSE_WAIT_S` in any order."""
        began = self._loop.time()
        unsettled = self.sending.unsettled()
        if unsettled:
            await asyncio.wait(unsettled, timeout=CLOSE_WAIT_S)
        self.ready = False
        if not self.ended.done():
            if self._client.disconnect() == MQTTErrorCode.MQTT_ERR_NO_CONN:
                # It still waits for TCP or TLS; nothing must be sent when they come.
                self._abandoned = True
            # a broker that has not acknowledged for so long has earned little more patience
            left_s = max(began + CLOSE_WAIT_S - self._loop.time(), CLOSE_WAIT_S / 4)
            await asyncio.wait([self.ended], timeout=left_s)
        self._abandoned = True
        if self.ended.done():
            self._thread.join(CLOSE_WAIT_S / 4)
            if self._end is None and not self._thread.is_alive():
                self._client.reinitialise()

    async def _work(self) -> End:
        """Do what the thread posts.

        In a task, whose end somebody waits for: a mistake in a callback of the loop would only be
        logged, and we would stay offline in silence.
        """
        try:
            while self._end is None:
                step, arguments = await self._steps.get()
                step(*arguments)
            return self._end
        finally:
            self.ready = False
            self._abandoned = True
            self._receipts.clear()
            self.sending.fail()

    def _send(self, message: Outgoing) -> int:
        info = self._client.publish(message.topic, message.payload, QOS, message.retain)
        traffic, length = self._inbox.traffic, len(message.payload)
        traffic.messages_out += 1
        traffic.bytes_out += publish_bytes(message.topic, length, mqtt5=self._mqtt5)
        return info.mid

    def _count_session(self, bytes_out: int, bytes_in: int) -> None:
        self._inbox.traffic.session_bytes_out += bytes_out
        self._inbox.traffic.session_bytes_in += bytes_in

    def _listening(self, packet_id: int, allowed: bool) -> None:
        topic = self._asked.pop(packet_id, None)
        if topic is not None:
            self._count_session(*listen_bytes((topic,), mqtt5=self._mqtt5))
            self._inbox.listening(topic, allowed=allowed)

    def _settle(self, packet_id: int) -> None:
        self._inbox.traffic.bytes_in += PUBACK_BYTES
        self.sending.acknowledged(packet_id)

    def _become_ready(self, window: int, max_payload_bytes: int) -> None:
        self.ready = True
        self._ready_at = self._loop.time()
        self.sending.limit = window
        self.sending.max_payload_bytes = max_payload_bytes
        self._inbox.connected(max_payload_bytes)
        early, self._early = self._early, []
        for message in early:
            self._receive(*message)

    def _receive(self, topic: str, payload: bytes, retained: bool, packet_id: int) -> None:
        # A resumed session's messages may come before the SUBACK.
        if not self.ready:
            self._early.append((topic, payload, retained, packet_id))
            return
        token = self._inbox.receive(topic, payload, retained, mqtt5=self._mqtt5)
        self._receipts.note(token, packet_id)

    def _finish(self, end: End) -> None:
        if self._ready_at:
            self.stood_s = self._loop.time() - self._ready_at
        for _, payload, _, _ in self._early:
            self._inbox.backlog.taken(len(payload))
        self._early.clear()
        # Closes the sockets that paho holds on to.
        self._client.reinitialise()
        self._end = end

    def _make_client(self) -> paho.Client:
        session = self._session
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            session.client_id,
            clean_session=None if self._mqtt5 else not session.persistent,
            protocol=MQTTProtocolVersion.MQTTv5 if self._mqtt5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        # No window of paho's: SendWindow keeps ours.
        client.max_inflight_messages = 0
        if self._address.username is not None:
            client.username_pw_set(self._address.username, self._address.password)
        if session.will is not None:
            client.will_set(session.will.topic, session.will.payload, QOS, session.will.retain)
        client.on_connect = lambda _c, _u, _f, reason, grants: self._on_connect(reason, grants)
        client.on_subscribe = lambda _c, _u, packet_id, reasons, _p: self._on_subscribe(
            packet_id, reasons
        )
        client.on_message = lambda _c, _u, message: self._on_message(message)
        client.on_publish = lambda _c, _u, packet_id, _r, _p: self._post(self._settle, packet_id)
        client.on_disconnect = lambda _c, _u, flags, reason, _p: self._on_disconnect(flags, reason)
        client.on_log = lambda _c, _u, level, line: self._on_log(level, line)
        client.on_socket_open = lambda _c, _u, opened: _send_at_once(opened)
        # With this set, paho never writes to the socket from the loop's thread.
        client.on_socket_register_write = lambda *_: None
        return client

    def _on_thread(self) -> None:
        place = f"{self._address.host}:{self._address.port}"
        reached = False
        try:
            self._on_open()
            reached = True
            while not self._abandoned and self._client.loop() == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass
            event = self._why or explain_alert(self._complaint) or self._on_hang_up(place)
        except ConfigError as error:
            event = Disconnected(str(error))
        except OSError as error:
            event = explain_failure(error, place)
        except Exception as error:
            # Whatever a broker may send that paho stumbles over: try again, never hang.
            event = Disconnected(f"the connection to {place} failed: {error!r}")
        hung_up = self._let_in and self._why is None and not self._complaint
        end = End(event, reached, self._answered, self._version_refused, hung_up, self._taken_over)
        self._post(self._finish, end)

    def _on_open(self) -> None:
        address, keepalive_s = self._address, self._session.keepalive_s
        # Read again for every attempt: certificates get renewed while we run.
        context = tls_context(address)
        if context is not None:
            self._client.tls_set_context(context)
        if not self._mqtt5:
            self._client.connect(address.host, address.port, keepalive_s)
            return
        persistent = self._session.persistent
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S if persistent else 0
        if persistent:
            properties.ReceiveMaximum = RECEIVE_AT_MOST
        self._client.connect(
            address.host,
            address.port,
            keepalive_s,
            clean_start=not persistent,
            properties=properties,
        )

    def _on_hang_up(self, place: str) -> Disconnected:
        if self._answered:
            return Disconnected(f"the connection to {place} broke")
        return Disconnected(f"{place} hung up before it answered")

    def _on_connect(self, reason: ReasonCode, grants: Properties | None) -> None:
        self._answered = True
        sent = connect_bytes(self._session, self._address, mqtt5=self._mqtt5)
        self._post(self._count_session, sent, CONNACK_BYTES)
        name = reason.getName()
        if name in _IDENTITY_REFUSED:
            self._why = Refused(_IDENTITY_REFUSED[name])
        elif reason.is_failure:
            self._version_refused = name == _VERSION_REFUSED
            self._why = Disconnected(f"the broker does not take us: {name.lower()}")
        else:
            self._let_in = True
            largest = getattr(grants, "MaximumPacketSize", 2 * MAX_MESSAGE_BYTES)
            self._granted = (
                min(IN_FLIGHT, getattr(grants, "ReceiveMaximum", IN_FLIGHT)),
                min(MAX_MESSAGE_BYTES, largest - HEADROOM_BYTES),
            )
            if largest < LEAST_PACKET_BYTES:
                self._why = Disconnected(
                    f"the broker takes packets of at most {largest} bytes: "
                    f"raise its limit to {LEAST_PACKET_BYTES} or more"
                )
                self._client.disconnect()
            elif self._session.subscriptions:
                fixed = [(topic, QOS) for topic in self._session.subscriptions]
                _, self._fixed = self._client.subscribe(fixed)
            else:
                self._post(self._become_ready, *self._granted)

    def _on_subscribe(self, packet_id: int, reasons: list[ReasonCode]) -> None:
        if packet_id != self._fixed:
            self._post(self._listening, packet_id, not any(r.is_failure for r in reasons))
            return
        self._subscribed = True
        wanted = zip(self._session.subscriptions, reasons, strict=False)
        self._post(self._count_session, *subscribe_bytes(self._session, mqtt5=self._mqtt5))
        denied = [topic for topic, reason in wanted if reason.is_failure]
        if denied:
            self._why = Refused(f"the broker denies us the topic {denied[0]}")
            self._client.disconnect()
        else:
            self._post(self._become_ready, *self._granted)

    def _on_message(self, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # Unacknowledged it would come again with every connection.
            self._client.ack(message.mid, message.qos)
            return
        if self._admits is not None and not self._admits(topic, len(message.payload)):
            # out of turn, but only what is before it is dealt with later
            self._client.ack(message.mid, message.qos)
            return
        backlog, payload = self._inbox.backlog, bytes(message.payload)
        # before the SUBACK the loop takes nothing, and what waits behind it is the SUBACK
        if self._subscribed and not backlog.wait_for_room():
            return
        backlog.add(len(payload))
        self._post(self._receive, topic, payload, message.retain, message.mid)

    def _on_disconnect(self, flags: paho.DisconnectFlags, reason: ReasonCode) -> None:
        name = reason.getName()
        if name == _TAKEN_OVER:
            self._taken_over = True
            self._why = Disconnected(
                f"another process is connected to the broker as {self._session.client_id!r}: "
                "stop it, or give it an id of its own"
            )
        elif self._why is None and flags.is_disconnect_packet_from_server:
            self._why = Disconnected(f"the broker ended the connection: {name.lower()}")
        elif self._why is None and name == "Keep alive timeout":
            self._why = Disconnected("the broker has not answered for a whole keep alive")

    def _on_log(self, level: int, line: str) -> None:
        # paho tells of its pings, and of a TLS alert after the handshake, here and nowhere else.
        if line in _PINGS:
            self._post(self._count_session, *_PINGS[line])
        if level == LogLevel.MQTT_LOG_ERR:
            self._complaint = self._complaint or line

    def _post(self, method: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(self._steps.put_nowait, (method, args))
        except RuntimeError:
            # The loop was closed without close(): nobody is left to tell, only sockets to close.
            self._client.reinitialise()


def _send_at_once(opened: object) -> None:
    """Switch Nagle's algorithm off (TCP_NODELAY, tcp(7)), which paho leaves on.

    It holds the end of a message back until the other side, which takes up to 40 ms over that, has
    acknowledged what went before.  TLS hands over a message in records of 16 KiB, so a chunk of
    48 KiB had to wait each time.
    """
    assert isinstance(opened, socket.socket)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
