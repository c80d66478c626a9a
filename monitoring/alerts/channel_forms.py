"""The form of each kind of channel. What it stores are the fields of the kind's class in monitoring.channels."""

import re
import ssl
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator, validate_email

from monitoring.channels import CHANNELS, class_of
from monitoring.channels.apprise_url import AppriseUrlError, service_of
from monitoring.channels.base import tls_context
from monitoring.channels.home_assistant import ENTITY, SEND_MESSAGE, SERVICE
from monitoring.channels.mail import SECURITIES
from monitoring.channels.mqtt import VERSIONS
from monitoring.channels.webhook import PREFIX, key_of, new_secret
from monitoring.models import ChannelConfig
from monitoring.models.channel import ChannelKind
from monitoring.models.delivery import DeliveryStatus
from safeguards.addresses import AddressError, resolve
from safeguards.sealing import SealError, channel_secrets

PRINTABLE = RegexValidator(r"\A[\x20-\x7e]*\Z", "Give it in one line, without special characters.")
ZONES = [(zone, zone) for zone in sorted(available_timezones())]
COMMON = ("least_severity", "quiet_from", "quiet_to", "zone", "critical_passes", "enabled")


class LogFilterForm(forms.Form):
    channel = forms.ChoiceField(required=False)
    status = forms.ChoiceField(
        choices=(("", "any but dismissed"), *DeliveryStatus.choices), required=False, label="State"
    )

    def __init__(self, *args: Any, channels: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["channel"].choices = [("", "any channel"), *channels]  # type: ignore[attr-defined]


def secret_field(label: str, help_text: str = "", *, required: bool = False) -> forms.CharField:
    """Never filled in, neither with what is stored nor with what was typed."""
    return forms.CharField(
        label=label,
        help_text=help_text,
        required=required,
        max_length=1000,
        validators=[PRINTABLE],
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "spellcheck": "false"}),
    )


def ca_field() -> forms.CharField:
    return forms.CharField(
        label="Certificate authority of your own (PEM)",
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="Only where the server's certificate is not signed by a public one",
    )


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """What all kinds have. `kind` names the kind; `place` the fields that say where its secrets are sent: for another
    place they have to be entered anew, lest a changed address draws a stored secret out."""

    kind: ClassVar[str]
    place: ClassVar[tuple[str, ...]] = ()
    intro: ClassVar[str] = ""

    zone = forms.ChoiceField(choices=ZONES, label="Time zone", required=False)

    class Meta:
        model = ChannelConfig
        fields = ("name", *COMMON)
        widgets: ClassVar = {
            "quiet_from": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
            "quiet_to": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
        }

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        instance: ChannelConfig,
        stored: dict[str, str],
        zone: str = "UTC",
    ) -> None:
        """`stored` are the secrets that the channel has, {} for a new one; `zone` is that of who makes a new one."""
        initial = self.shown(instance.settings) if instance.pk else {"zone": zone}
        super().__init__(data, instance=instance, initial=initial)
        self.stored = stored
        for name in self.secret_names():
            field = self.fields[name]
            if name not in stored:
                continue
            field.help_text = "One is stored and never shown. Leave this empty to keep it."
            field.widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
            field.initial = None
            if not field.required:
                self.fields[f"forget_{name}"] = forms.BooleanField(
                    label=f"Forget the stored {str(field.label).lower()}", required=False
                )
            field.required = False
        where = [*self.own_names(), *(name for name in self.fields if name.startswith("forget_"))]
        self.order_fields(["name", *where, *COMMON])

    @staticmethod
    def shown(settings: dict[str, Any]) -> dict[str, Any]:
        """Stored settings as the form's fields have them."""
        return settings

    @classmethod
    def secret_names(cls) -> tuple[str, ...]:
        return class_of(cls.kind).secret_names()

    @classmethod
    def needed_secrets(cls, settings: dict[str, Any]) -> list[str]:
        """Without which it can't send."""
        return [name for name in cls.secret_names() if cls.base_fields[name].required]

    @classmethod
    def own_names(cls) -> list[str]:
        return [name for name in cls.base_fields if name not in ("name", *COMMON)]

    @property
    def where(self) -> list[forms.BoundField]:
        return [field for field in self if field.name not in COMMON]

    @property
    def which(self) -> list[forms.BoundField]:
        return [self[name] for name in COMMON]

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if name.lower() in CHANNELS:
            raise ValidationError(f"{name} is always there under this name: give another.")
        return name

    def clean_zone(self) -> str:
        return self.cleaned_data["zone"] or "UTC"

    def clean_ca(self) -> str:
        ca = str(self.cleaned_data["ca"]).strip()
        try:
            tls_context(ca)
        except (ssl.SSLError, ValueError) as error:
            raise ValidationError(
                "Give a certificate in PEM form, from '-----BEGIN CERTIFICATE-----' to its end."
            ) from error
        return ca

    def clean(self) -> dict[str, Any]:
        found = super().clean() or self.cleaned_data
        moved = [
            name for name in self.place if name in found and found[name] != self.instance.settings.get(name)
        ]
        for name in self.secret_names():
            kept = name in self.stored and not found.get(name) and not found.get(f"forget_{name}")
            if kept and moved and name not in self.errors:
                self.add_error(name, "It was stored for another place: enter it again, for this one.")
        return found

    def settings(self) -> dict[str, Any]:
        secrets = self.secret_names()
        return {name: self.cleaned_data[name] for name in self.own_names() if name not in secrets}

    def secrets(self) -> dict[str, str]:
        """To be stored: what was entered, else what was stored and is not to be forgotten."""
        found = {
            name: self.cleaned_data.get(name)
            or ("" if self.cleaned_data.get(f"forget_{name}") else self.stored.get(name, ""))
            for name in self.secret_names()
        }
        return {name: value for name, value in found.items() if value}

    def will_have(self, name: str) -> bool:
        return bool(self.cleaned_data.get(name)) or (
            name in self.stored and not self.cleaned_data.get(f"forget_{name}")
        )


class WebhookForm(ChannelForm):
    kind = "webhook"
    intro = "Posts JSON to an address of yours, signed so that you can tell it is from here."

    url = secret_field(
        "Address",
        "http:// or https://. It is never shown again, since such addresses often hold a token.",
        required=True,
    )
    signing_secret = secret_field("Signing secret", required=True)
    authorization = secret_field("Authorization header", "Optional: sent along as it is, e.g. Bearer abc")
    ca = ca_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "url" not in self.stored:
            self.fields["url"].widget = forms.URLInput(attrs={"autocomplete": "off"})
        if "signing_secret" not in self.stored:
            self.fields["signing_secret"].initial = new_secret()
            self.fields["signing_secret"].widget = forms.TextInput(attrs={"autocomplete": "off"})
            self.fields["signing_secret"].help_text = "Copy it to the receiver now: it is never shown again."

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"])
        return check_url(url) if url else ""

    def clean_signing_secret(self) -> str:
        found = str(self.cleaned_data["signing_secret"])
        if found:
            try:
                key_of(found)
            except ValueError as error:
                raise ValidationError(
                    f"Give {PREFIX} and at least 16 bytes in base64; a new channel comes with a fresh one."
                ) from error
        return found


class HomeAssistantForm(ChannelForm):
    kind = "home_assistant"
    place = ("url",)
    intro = "Calls a notify action of Home Assistant, e.g. to your phone."

    url = forms.CharField(
        label="Address of Home Assistant",
        max_length=300,
        widget=forms.URLInput,
        help_text="e.g. http://homeassistant.local:8123",
    )
    token = secret_field(
        "Long-lived access token",
        "In Home Assistant: your profile, Security, Long-lived access tokens",
        required=True,
    )
    service = forms.CharField(
        label="Action",
        max_length=100,
        initial="notify.notify",
        help_text="e.g. notify.mobile_app_phone, persistent_notification.create, or notify.send_message with an entity",
    )
    entity = forms.CharField(
        label="Notify entity",
        max_length=100,
        required=False,
        help_text="Only with notify.send_message: e.g. notify.kitchen",
    )
    ca = ca_field()

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip().rstrip("/")
        if url == self.instance.settings.get("url"):
            return url
        if urlsplit(url).query:
            raise ValidationError("Give the address without '?'.")
        return check_url(url)

    def clean_service(self) -> str:
        service = str(self.cleaned_data["service"])
        if not SERVICE.fullmatch(service):
            raise ValidationError("Give an action such as notify.mobile_app_phone.")
        return service

    def clean(self) -> dict[str, Any]:
        found = super().clean()
        entity, service = str(found.get("entity") or ""), found.get("service")
        if service == SEND_MESSAGE and not ENTITY.fullmatch(entity):
            self.add_error("entity", "notify.send_message needs an entity such as notify.kitchen.")
        elif service and service != SEND_MESSAGE and entity:
            self.add_error(
                "entity", "Only notify.send_message takes an entity: clear it, or choose that action."
            )
        return found


class ServerForm(ChannelForm):
    """Host and port of a server that is not asked over HTTP."""

    place: ClassVar[tuple[str, ...]] = ("host", "port")

    def clean_host(self) -> str:
        host = str(self.cleaned_data["host"]).strip().strip("[]")
        if host != self.instance.settings.get("host"):
            check_host(host)
        return host


def host_field() -> forms.CharField:
    return forms.CharField(label="Host", max_length=253)


def port_field(port: int) -> forms.IntegerField:
    return forms.IntegerField(label="Port", min_value=1, max_value=65535, initial=port)


def user_field() -> forms.CharField:
    return forms.CharField(label="User", max_length=200, required=False, validators=[PRINTABLE])


class MailForm(ServerForm):
    kind = "mail"
    place = ("host", "port", "security")
    intro = "Sends a mail a notice; those of one alert stand in one thread."

    host = host_field()
    port = port_field(587)
    security = forms.ChoiceField(label="Encryption", choices=SECURITIES)
    user = user_field()
    password = secret_field("Password")
    sender = forms.EmailField(label="From", max_length=200)
    recipients = forms.CharField(label="To", max_length=1000, help_text="Addresses, separated by commas")
    ca = ca_field()

    @staticmethod
    def shown(settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "recipients": ", ".join(settings.get("recipients", []))}

    @classmethod
    def needed_secrets(cls, settings: dict[str, Any]) -> list[str]:
        return ["password"] if settings.get("user") else []

    def clean_recipients(self) -> list[str]:
        found = [
            each.strip() for each in re.split(r"[,;\n]", self.cleaned_data["recipients"]) if each.strip()
        ]
        for each in found:
            try:
                validate_email(each)
            except ValidationError as error:
                raise ValidationError(f"{each} is no e-mail address.") from error
        return found

    def clean(self) -> dict[str, Any]:
        found = super().clean()
        if found.get("security") == "none" and (found.get("user") or self.will_have("password")):
            self.add_error("security", "A password is not sent unencrypted: choose STARTTLS or TLS.")
        if found.get("user") and "password" not in self.errors and not self.will_have("password"):
            self.add_error("password", "Give the user's password, or leave both empty.")
        return found


class MqttForm(ServerForm):
    kind = "mqtt"
    place = ("host", "port", "tls")
    intro = "Publishes JSON with QoS 1 and waits for the broker's acknowledgement."

    host = host_field()
    port = port_field(1883)
    tls = forms.BooleanField(label="TLS (mostly port 8883)", required=False)
    user = user_field()
    password = secret_field("Password", "Without TLS it crosses the network readable")
    version = forms.ChoiceField(label="Version of MQTT", choices=VERSIONS)
    topic = forms.CharField(max_length=200, initial="aicleaner/alerts")
    discovery = forms.BooleanField(
        label="Show this machine in Home Assistant",
        required=False,
        help_text="As a device with its load, model and alerts, and a button that acknowledges them",
    )
    discovery_prefix = forms.RegexField(
        r"\A[A-Za-z0-9_/-]+\Z",
        label="Discovery prefix",
        max_length=100,
        initial="homeassistant",
        help_text="As it is set in Home Assistant",
        error_messages={"invalid": "Give a topic of letters, digits, _, - and /, such as homeassistant."},
    )
    ca = ca_field()

    def clean_topic(self) -> str:
        topic = str(self.cleaned_data["topic"])
        if re.search(r"[+#\x00]", topic) or topic.startswith("$"):
            raise ValidationError("Give a topic to publish on: without + and #, and not beginning with $.")
        return topic


class AppriseForm(ChannelForm):
    kind = "apprise"
    intro = "One Apprise URL: Telegram, Matrix, ntfy, Signal, Slack and a hundred others."

    url = secret_field(
        "Apprise URL",
        "e.g. ntfy://topic or tgram://bottoken/ChatID; github.com/caronc/apprise lists them. It is never shown again.",
        required=True,
    )

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip()
        if url:
            try:
                service_of(url)
            except AppriseUrlError as error:
                raise ValidationError(str(error)) from error
        return url


def lacking_secrets(config: ChannelConfig) -> list[str]:
    """Labels of what has to be entered before it can send: an import leaves it out."""
    form = FORMS[config.kind]
    try:
        stored = channel_secrets.unseal(config.sealed)
    except SealError:
        return []  # it says so itself
    return [
        str(form.base_fields[name].label)
        for name in form.needed_secrets(config.settings)
        if name not in stored
    ]


FORMS: dict[str, type[ChannelForm]] = {
    form.kind: form for form in (WebhookForm, HomeAssistantForm, MailForm, MqttForm, AppriseForm)
}
LABELS = dict(ChannelKind.choices)


def check_url(text: str) -> str:
    """Raises ValidationError that doesn't quote what it may not show."""
    url = text.strip()
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise ValidationError(f"That is no address: {error}.") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", url):
        raise ValidationError("Give an address that starts with http:// or https://.")
    if parts.username is not None or parts.password is not None:
        raise ValidationError("Leave user name and password out of the address.")
    check_host(parts.hostname, port)
    return url


def check_host(host: str, port: int = 443) -> None:
    if not host or re.search(r"[\s/@]", host):
        raise ValidationError("Give the name or the address of a host, such as mail.example.com.")
    try:
        resolve(host, port)
    except AddressError as error:
        raise ValidationError(str(error)) from error
