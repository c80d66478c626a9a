"""Home Assistant's own notify actions over its REST API (https://developers.home-assistant.io/docs/api/rest/)."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from monitoring.channels.base import Channel, Notice, secret, tls_context
from monitoring.channels.http import post

SERVICE = re.compile(r"notify\.[a-z0-9_]+|persistent_notification\.create")
ENTITY = re.compile(r"notify\.[a-z0-9_]+")
SEND_MESSAGE = "notify.send_message"  # the action that takes a notify entity


@dataclass(kw_only=True, eq=False)
class HomeAssistantChannel(Channel):
    """A later notice of an episode takes the place of the one before: by `tag` in the phone apps, by `notification_id`
    in Home Assistant itself."""

    name = "home_assistant"

    url: str
    token: str = secret()
    service: str = "notify.notify"
    entity: str = ""
    ca: str = ""

    def send(self, notice: Notice) -> None:
        domain, _, action = self.service.partition(".")
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        body = json.dumps(self._body(notice)).encode()
        url = f"{self.url}/api/services/{domain}/{action}"
        post(url, body, headers, tls_context(self.ca), datetime.now(UTC))

    def _body(self, notice: Notice) -> dict[str, Any]:
        """A tap on it opens the link: `url` in the app for iOS, `clickAction` in that for Android."""
        said: dict[str, Any] = {"title": notice.title, "message": notice.text}
        tag = f"aicleaner-{notice.thread}"
        if self.service == SEND_MESSAGE:
            return {**said, "message": notice.text_with_link, "entity_id": self.entity}
        if self.service.startswith("persistent_notification."):
            return {**said, "message": notice.text_with_link, "notification_id": tag}
        opens = {"url": notice.link, "clickAction": notice.link} if notice.link else {}
        return {**said, "data": {"tag": tag, "key": notice.key, "severity": notice.severity, **opens}}

    @property
    def target(self) -> str:
        return f"{self.entity or self.service} at {self.url}"
