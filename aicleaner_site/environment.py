"""Reading environment variables, with one clear sentence when one is wrong. An empty one counts as not set."""

import ipaddress
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

SOCKET_PATH_LIMIT = 107  # bytes in sockaddr_un.sun_path, less the closing zero
DATABASES = "postgres://user:password@host/name or sqlite:////path/of/a/file"


def path(name: str, default: Path) -> Path:
    return Path(os.environ.get(name) or default).expanduser().resolve()


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def words(name: str, default: str) -> list[str]:
    return text(name, default).replace(",", " ").split()


def boolean(name: str, *, default: bool) -> bool:
    found = flag(name)
    return default if found is None else found


def flag(name: str) -> bool | None:
    """None when it is not set."""
    raw = os.environ.get(name, "").strip().lower()
    if raw in ("", "1", "true", "yes", "on", "0", "false", "no", "off"):
        return raw in ("1", "true", "yes", "on") if raw else None
    raise ImproperlyConfigured(f"{name} is '{raw}': give 1 or 0.")


def choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    raw = text(name, default).lower()
    if raw not in choices:
        raise ImproperlyConfigured(f"{name} is '{raw}': give one of {', '.join(choices)}.")
    return raw


def integer(name: str, default: int, low: int = 1, high: int = 1_000_000) -> int:
    raw = text(name, str(default))
    if not raw.isdecimal() or not low <= int(raw) <= high:
        raise ImproperlyConfigured(f"{name} is '{raw}': give a whole number from {low} to {high}.")
    return int(raw)


def port(name: str, default: int) -> int:
    return integer(name, default, 1, 65535)


def networks(name: str) -> list[str]:
    """Addresses and networks, such as 10.0.0.7 or 10.0.0.0/24."""
    found = words(name, "")
    for each in found:
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name}: {error}. Give addresses or networks such as 10.0.0.0/24."
            ) from error
    return found


def database(name: str, default: str) -> dict[str, Any]:
    """Django's settings of the database at a URL, which may hold a password and is not quoted."""
    try:
        found = dj_database_url.parse(text(name, default), conn_max_age=60, conn_health_checks=True)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} can't be read: give {DATABASES}.") from error
    if found["ENGINE"].rpartition(".")[2] not in {"sqlite3", "postgresql"}:
        raise ImproperlyConfigured(f"{name} names a database that is not supported: give {DATABASES}.")
    return dict(found)


def valkey_url(name: str) -> str:
    """'' when it is not set. It may hold a password and is not quoted."""
    raw = text(name)
    if raw and not re.match(r"(rediss?|unix)://.", raw):
        raise ImproperlyConfigured(
            f"{name}: give redis://:password@host:6379/0, rediss://... or unix:///path."
        )
    return raw


def ollama_url() -> str:
    """OLLAMA_HOST as Ollama itself reads it: host, host:port or URL; 0.0.0.0 means this machine."""
    raw = os.environ.get("OLLAMA_HOST", "").strip() or "127.0.0.1:11434"
    try:
        parts = urlsplit(raw if "://" in raw else f"http://{raw}")
        given = parts.port
    except ValueError as error:
        raise ImproperlyConfigured(
            f"OLLAMA_HOST is '{raw}': {error}. Give host, host:port or http(s)://host:port."
        ) from error
    if parts.scheme not in ("http", "https") or parts.path.strip("/"):
        raise ImproperlyConfigured(
            f"OLLAMA_HOST is '{raw}': give host, host:port or http(s)://host:port, without a path."
        )
    host = parts.hostname or "127.0.0.1"
    if host == "0.0.0.0":  # noqa: S104 - a listening address, read as the loopback that reaches it
        host = "127.0.0.1"
    default = 443 if "://" in raw and parts.scheme == "https" else 80 if "://" in raw else 11434
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{given or default}"


def time_zone(localtime: Path = Path("/etc/localtime")) -> str:
    """AICLEANER_TIME_ZONE, else TZ, else the machine's zone; UTC where none is told. It is left in the environment: Django
    sets TZ to its own zone, for this process and all that it starts."""
    given = os.environ.get("AICLEANER_TIME_ZONE", "").strip()
    if given and not _is_zone(given):
        raise ImproperlyConfigured(f"AICLEANER_TIME_ZONE is '{given}': give a name such as Europe/Berlin.")
    guesses = (
        os.environ.get("TZ", "").removeprefix(":"),
        str(localtime.resolve()).partition("zoneinfo/")[2].removeprefix("posix/"),
    )
    found = given or next((each for each in guesses if _is_zone(each)), "UTC")
    os.environ["AICLEANER_TIME_ZONE"] = found
    return found


def _is_zone(name: str) -> bool:
    try:
        return bool(name) and ZoneInfo(name) is not None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def http_url(name: str) -> str:
    """'' when it is not set. It may hold a secret and is not quoted."""
    raw = os.environ.get(name, "").strip()
    try:
        parts = urlsplit(raw)
        fine = not raw or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        fine = False
    if not fine:
        raise ImproperlyConfigured(f"{name}: give a URL that begins with http:// or https://, with its host.")
    return raw


def public_url(name: str) -> str:
    """The address of the console as people reach it, as a browser writes an origin; '' when it is not set."""
    raw = os.environ.get(name, "").strip()
    if not raw:
        return ""
    try:
        parts = urlsplit(raw)
        host, given = parts.hostname or "", parts.port
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} is '{raw}': {error}. Give https://name or http://name:port."
        ) from error
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
    if (
        parts.scheme not in ("http", "https")
        or not re.fullmatch(r"[a-z0-9._:-]+", host)
        or given == 0
        or not plain
    ):
        raise ImproperlyConfigured(
            f"{name} is '{raw}': give https://name or http://name:port, without user or path; the console has a host of its own."
        )
    usual = 443 if parts.scheme == "https" else 80
    port = "" if given in (None, usual) else f":{given}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def host_of(url: str) -> str:
    """As Django names hosts: IPv6 in brackets."""
    host = urlsplit(url).hostname or ""
    return f"[{host}]" if ":" in host else host


def run_dir(data_dir: Path) -> Path:
    """Folder of the sockets: `DATA_DIR/run`, or one of the user's own in /tmp when that path is too long for a socket, or
    has characters that mean something else in a URL."""
    wanted = data_dir / "run"
    longest = os.fsencode(wanted / "supervisor.sock.999999")
    if len(longest) <= SOCKET_PATH_LIMIT and set(str(wanted)).isdisjoint("%?#"):
        return wanted
    from hashlib import sha256

    digest = sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"aicleaner-{os.getuid()}-{digest}"


def secret_key(data_dir: Path) -> str:
    """The key kept in `DATA_DIR/secret_key`; before `manage.py up` made it, one that lasts as long as the process."""
    if key := os.environ.get("AICLEANER_SECRET_KEY"):
        return key
    try:
        return (data_dir / "secret_key").read_text().strip()
    except FileNotFoundError:
        return secrets.token_urlsafe(50)
    except OSError as error:
        raise ImproperlyConfigured(f"{data_dir / 'secret_key'} can't be read: {error.strerror}.") from error
