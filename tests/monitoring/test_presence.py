"""This machine as a device of Home Assistant, on a real Mosquitto."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.publish as publish
import pytest
import redis
from django.conf import settings as django_settings
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import MQTTErrorCode

from monitoring import presence
from monitoring.alerts.selectors import LAST_KEY
from monitoring.channels.mqtt import MqttChannel
from monitoring.home_assistant import EXPIRE_AFTER_S, SENSORS, STATE_EVERY_S, Device, state_of
from monitoring.models import Alert, ChannelConfig
from monitoring.presence import Presence, Presences
from tests.monitoring.alerting import Bench, make_rule
from tests.monitoring.receivers import MOSQUITTO, NO_MOSQUITTO, Mosquitto, configure, subscriber
from tests.product import wait_for

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)
DEVICE = Device("My-Box.local", "homeassistant")
SAMPLE: dict[str, Any] = {
    "v": {
        "cpu_percent": 12.345,
        "memory_used_percent": 50.0,
        "gateway_tokens_per_s": 120.0,
        "gpu_joules_per_token": 0.8,
        "gpu_util_percent{gpu=0}": 10.0,
        "gpu_util_percent{gpu=1}": 90.0,
        "gpu_memory_used_bytes{gpu=0}": 2e9,
        "gpu_memory_total_bytes{gpu=0}": 8e9,
        "gpu_memory_used_bytes{gpu=1}": 4e9,
        "gpu_memory_total_bytes{gpu=1}": 8e9,
        "gpu_power_w{gpu=0}": 40.0,
        "gpu_power_w{gpu=1}": 60.0,
        "gpu_power_limit_w{gpu=0}": 300.0,
        "gpu_temperature_celsius{gpu=0}": 61.0,
        "temperature_celsius{sensor=cpu}": 80.0,
    },
    "state": {"engine": {"up": True}, "models": [{"name": "llama3:8b"}]},
}


def test_a_state_is_one_sample_and_unknown_is_none() -> None:
    assert state_of(SAMPLE, ["Heat on box"]) == {
        "cpu": 12.3,
        "memory": 50.0,
        "gpu": 90.0,
        "vram": 37.5,
        "temperature": 61.0,
        "power": 100.0,
        "tokens_per_s": 120.0,
        "tokens_per_joule": 1.25,
        "alerts": 1,
        "alert_names": ["Heat on box"],
        "model": "llama3:8b",
    }
    empty = state_of(
        {"v": {"temperature_celsius{sensor=cpu}": 80.0, "gpu_power_w{gpu=0}": None}, "state": {}}, []
    )
    assert empty.pop("alert_names") == []
    assert empty.pop("temperature") == 80.0
    assert empty.pop("alerts") == 0
    assert set(empty.values()) == {None}
    assert state_of({"v": {}, "state": {"engine": {"up": True}, "models": []}}, [])["model"] == "none"


def test_the_device_has_its_entities_under_names_of_their_own() -> None:
    config = DEVICE.config()
    assert DEVICE.config_topic == "homeassistant/device/aicleaner_my_box_local/config"
    assert set(config) == {"dev", "o", "cmps", "availability_topic", "qos"}
    parts = config["cmps"]
    assert set(parts) == {*SENSORS, "model", "acknowledge"}
    assert len({part["unique_id"] for part in parts.values()}) == len(parts)
    assert all(
        part["expire_after"] == EXPIRE_AFTER_S == 3 * STATE_EVERY_S
        for k, part in parts.items()
        if k != "acknowledge"
    )
    state = state_of(SAMPLE, [])
    for key, part in parts.items():
        assert key == "acknowledge" or part["value_template"] == f"{{{{ value_json.{key} }}}}"
        assert key == "acknowledge" or key in state


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as found:
        yield found


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[redis.Redis]:
    client = redis.from_url(valkey_url)
    client.set(LAST_KEY, json.dumps(SAMPLE))
    yield client
    client.delete(LAST_KEY, presence.LOCK_KEY)
    client.close()


def channel(broker: Mosquitto) -> MqttChannel:
    return MqttChannel(host="127.0.0.1", port=broker.port, topic="ai/alerts", discovery=True)


@contextmanager
def present(broker: Mosquitto, valkey: redis.Redis, *, remove: bool = False) -> Iterator[Presence]:
    thread = Presence(channel(broker), DEVICE, valkey)
    thread.start()
    try:
        yield thread
    finally:
        thread.end(remove=remove)
        thread.join(10)
        assert not thread.is_alive()


def on(got: list[MQTTMessage], topic: str) -> list[bytes]:
    return [bytes(message.payload) for message in list(got) if message.topic == topic]


def press(broker: Mosquitto, topic: str, payload: str, *, retain: bool = False) -> None:
    publish.single(topic, payload, qos=1, retain=retain, hostname="127.0.0.1", port=broker.port)


@needs_mosquitto
@pytest.mark.django_db(transaction=True)
def test_it_appears_tells_its_state_and_again_when_home_assistant_starts(
    broker: Mosquitto, valkey: redis.Redis
) -> None:
    with subscriber(broker, "#") as got:
        with present(broker, valkey):
            wait_for(lambda: on(got, DEVICE.state_topic), "a state", 10)
            assert json.loads(on(got, DEVICE.config_topic)[0]) == DEVICE.config()
            assert on(got, DEVICE.availability_topic) == [b"online"]
            assert json.loads(on(got, DEVICE.state_topic)[0]) == state_of(SAMPLE, [])
            press(broker, "homeassistant/status", "offline")
            press(broker, "homeassistant/status", "online")
            wait_for(lambda: len(on(got, DEVICE.state_topic)) > 1, "the state again", 10)
            assert len(on(got, DEVICE.config_topic)) == 2
        wait_for(lambda: on(got, DEVICE.availability_topic)[-1] == b"offline", "it says goodbye", 10)
    with subscriber(broker, "#") as late:
        wait_for(lambda: on(late, DEVICE.config_topic), "the config was retained", 10)
        assert on(late, DEVICE.availability_topic) == [b"offline"]
        assert on(late, DEVICE.state_topic) == []


@needs_mosquitto
@pytest.mark.django_db(transaction=True)
def test_without_samples_it_says_no_state(broker: Mosquitto, valkey: redis.Redis) -> None:
    valkey.delete(LAST_KEY)
    with subscriber(broker, "#") as got, present(broker, valkey) as thread:
        wait_for(lambda: on(got, DEVICE.availability_topic), "it is online", 10)
        wait_for(lambda: thread._due > 0, "its state was due", 10)
        press(broker, "end", "of it")
        wait_for(lambda: on(got, "end"), "the end", 10)
        assert on(got, DEVICE.state_topic) == []


@needs_mosquitto
@pytest.mark.django_db(transaction=True)
def test_its_button_acknowledges_what_is_open(broker: Mosquitto, valkey: redis.Redis) -> None:
    make_rule()
    make_rule(name="Load", series="load")
    Bench().heat(95, load=95)
    press(broker, DEVICE.acknowledge_topic, "PRESS", retain=True)  # an old press is none
    with subscriber(broker, "#") as got, present(broker, valkey):
        wait_for(lambda: on(got, DEVICE.state_topic), "a state", 10)
        assert json.loads(on(got, DEVICE.state_topic)[0])["alerts"] == 2
        press(broker, DEVICE.acknowledge_topic, "nonsense")
        assert not Alert.objects.exclude(acknowledged_at=None).exists()
        press(broker, DEVICE.acknowledge_topic, "PRESS")
        wait_for(lambda: not Alert.objects.filter(acknowledged_at=None).exists(), "both acknowledged", 10)
    assert set(Alert.objects.values_list("acknowledged_by", flat=True)) == {"Home Assistant"}


@needs_mosquitto
@pytest.mark.django_db(transaction=True)
def test_killed_it_is_offline_by_its_last_will(broker: Mosquitto, valkey: redis.Redis) -> None:
    child = os.fork()
    if child == 0:
        try:
            Presence(channel(broker), DEVICE, valkey).run()
        finally:
            os._exit(1)
    try:
        with subscriber(broker, "#") as got:
            wait_for(lambda: on(got, DEVICE.availability_topic) == [b"online"], "it is online", 10)
            os.kill(child, signal.SIGKILL)
            wait_for(lambda: on(got, DEVICE.availability_topic)[-1] == b"offline", "its last will", 10)
    finally:
        os.waitpid(child, 0)


@needs_mosquitto
@pytest.mark.django_db(transaction=True)
def test_it_comes_back_with_its_broker(
    broker: Mosquitto, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(presence, "MOST_PAUSE_S", 0.1)
    monkeypatch.setattr(presence, "STATE_EVERY_S", 0.2)  # the subscriber may have missed the first
    broker.stop()
    with present(broker, valkey) as thread:
        wait_for(lambda: thread._said, "it said that it has no broker", 10)
        for _ in range(2):
            broker.start()
            with subscriber(broker, "#") as got:
                wait_for(lambda: on(got, DEVICE.state_topic), "a state", 10)
            broker.stop()


@needs_mosquitto
def test_a_broker_that_goes_at_the_same_time_gets_no_goodbye(broker: Mosquitto, valkey: redis.Redis) -> None:
    thread = Presence(channel(broker), DEVICE, valkey)
    client = thread.channel.client("goodbye")
    client.connect("127.0.0.1", broker.port)
    wait_for(lambda: client.loop(0.1) or client.is_connected(), "it is connected", 10)
    broker.stop()
    thread._say_goodbye(client)  # it has not noticed yet
    assert client.loop(0.1) != MQTTErrorCode.MQTT_ERR_SUCCESS
    thread._say_goodbye(client)


@needs_mosquitto
@pytest.mark.django_db(transaction=True)
def test_channels_that_ask_for_it_are_followed_by_one_worker(broker: Mosquitto, valkey: redis.Redis) -> None:
    device = Device(django_settings.HOST_NAME, "homeassistant")
    settings = {"host": "127.0.0.1", "port": broker.port, "topic": "ai/alerts"}
    config = configure("mqtt", {**settings, "discovery": True}, {})
    configure("mqtt", settings, {}, name="only notices")
    first, second = Presences(), Presences()
    assert (first._is_mine(), second._is_mine(), first._is_mine()) == (True, False, True)
    with subscriber(broker, "#") as got:
        second.look(mine=False)
        assert second._running == {}
        first.look(mine=True)
        wait_for(lambda: on(got, device.config_topic), "the device", 10)
        running = dict(first._running)
        first.look(mine=True)
        assert first._running == running
        ChannelConfig.objects.filter(pk=config.pk).update(enabled=False)
        first.look(mine=True)
        assert first._running == {}
        wait_for(lambda: on(got, device.config_topic)[-1] == b"", "the device is forgotten", 10)
    for each in (first, second):
        each.valkey.close()


@needs_mosquitto
@pytest.mark.django_db(transaction=True)
def test_the_thread_of_a_worker_ends_with_it(broker: Mosquitto, valkey: redis.Redis) -> None:
    configure("mqtt", {"host": "127.0.0.1", "port": broker.port, "topic": "x", "discovery": True}, {})
    device = Device(django_settings.HOST_NAME, "homeassistant")
    with subscriber(broker, "#") as got:
        thread = Presences()
        thread.start()
        wait_for(lambda: on(got, device.state_topic), "a state", 10)
        thread.end(10)
        assert not thread.is_alive()
        wait_for(lambda: on(got, device.availability_topic)[-1] == b"offline", "it says goodbye", 10)
    assert on(got, device.config_topic)[-1] != b""
    assert valkey.get(presence.LOCK_KEY) is None
    assert not [each for each in threading.enumerate() if each.name.startswith("presence")]
    thread.valkey.close()
