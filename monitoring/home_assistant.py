"""What Home Assistant sees of this machine over MQTT: one device by its device-based discovery
(https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload), and its state as one JSON message."""

import re
from typing import Any

STATE_EVERY_S = 10.0
EXPIRE_AFTER_S = 30  # three states missed
MAX_STATE = 255  # characters that Home Assistant keeps of a state
# key: (name, unit, device class, digits)
SENSORS: dict[str, tuple[str, str | None, str | None, int]] = {
    "cpu": ("CPU", "%", None, 1),
    "memory": ("Memory", "%", None, 1),
    "gpu": ("GPU", "%", None, 1),
    "vram": ("VRAM", "%", None, 1),
    "temperature": ("Temperature", "°C", "temperature", 1),
    "power": ("GPU power", "W", "power", 1),
    "tokens_per_s": ("Tokens per second", "tokens/s", None, 1),
    "tokens_per_joule": ("Tokens per joule", "tokens/J", None, 3),
    "alerts": ("Active alerts", None, None, 0),
}
PRESS = "PRESS"


class Device:
    """Topics and discovery payload of the machine `host`."""

    def __init__(self, host: str, prefix: str) -> None:
        self.host, self.id = host, f"aicleaner_{re.sub(r'[^a-z0-9]+', '_', host.lower()).strip('_')}"
        self.config_topic, self.birth_topic = f"{prefix}/device/{self.id}/config", f"{prefix}/status"
        self.state_topic = f"aicleaner/{self.id}/state"
        self.availability_topic = f"aicleaner/{self.id}/availability"
        self.acknowledge_topic = f"aicleaner/{self.id}/acknowledge"

    def config(self) -> dict[str, Any]:
        parts: dict[str, Any] = {key: self._sensor(key) for key in SENSORS}
        parts["alerts"]["json_attributes_topic"] = self.state_topic
        parts["alerts"]["json_attributes_template"] = "{{ {'alerts': value_json.alert_names} | tojson }}"
        parts["model"] = {
            **self._part("model", "sensor", "Loaded model"),
            "state_topic": self.state_topic,
            "value_template": "{{ value_json.model }}",
            "expire_after": EXPIRE_AFTER_S,
            "icon": "mdi:brain",
        }
        parts["acknowledge"] = {
            **self._part("acknowledge", "button", "Acknowledge open alerts"),
            "command_topic": self.acknowledge_topic,
            "payload_press": PRESS,
        }
        return {
            "dev": {
                "ids": [self.id],
                "name": f"AICleaner {self.host}",
                "mf": "AICleaner",
                "mdl": "AICleaner Performance",
            },
            "o": {"name": "AICleaner Performance"},
            "cmps": parts,
            "availability_topic": self.availability_topic,
            "qos": 1,
        }

    def _part(self, key: str, platform: str, name: str) -> dict[str, Any]:
        return {"p": platform, "unique_id": f"{self.id}_{key}", "name": name}

    def _sensor(self, key: str) -> dict[str, Any]:
        name, unit, device_class, digits = SENSORS[key]
        found = {
            **self._part(key, "sensor", name),
            "state_topic": self.state_topic,
            # None renders as 'None', by which Home Assistant knows an unknown value
            "value_template": f"{{{{ value_json.{key} }}}}",
            "expire_after": EXPIRE_AFTER_S,
            "state_class": "measurement",
            "suggested_display_precision": digits,
        }
        if unit is not None:
            found["unit_of_measurement"] = unit
        if device_class is not None:
            found["device_class"] = device_class
        return found


def state_of(sample: dict[str, Any], alert_names: list[str]) -> dict[str, Any]:
    """One sample of the collector, for SENSORS: percent, °C, W, tokens; None where unknown. Of several GPUs the busiest
    and hottest, and the sum of memory and power; without a GPU the temperature is that of the hottest sensor."""
    values: dict[str, float | None] = sample["v"]

    def each(metric: str) -> list[float]:
        found = (value for name, value in values.items() if name.partition("{")[0] == metric)
        return [value for value in found if value is not None]

    vram, power = each("gpu_memory_total_bytes"), each("gpu_power_w")
    heat = each("gpu_temperature_celsius") or each("temperature_celsius")
    joules_per_token = values.get("gpu_joules_per_token")
    state = {
        "cpu": values.get("cpu_percent"),
        "memory": values.get("memory_used_percent"),
        "gpu": max(each("gpu_util_percent"), default=None),
        "vram": 100 * sum(each("gpu_memory_used_bytes")) / sum(vram) if vram and sum(vram) else None,
        "temperature": max(heat, default=None),
        "power": sum(power) if power else None,
        "tokens_per_s": values.get("gateway_tokens_per_s"),
        "tokens_per_joule": 1 / joules_per_token if joules_per_token else None,  # of the last minute
        "alerts": float(len(alert_names)),
    }
    rounded = {key: None if value is None else round(value, SENSORS[key][3]) for key, value in state.items()}
    engine = sample["state"].get("engine") or {}
    names = ", ".join(model["name"] for model in sample["state"].get("models") or [])
    model = (names or "none")[:MAX_STATE] if engine.get("up") else None
    return {**rounded, "alerts": len(alert_names), "model": model, "alert_names": alert_names[:20]}
