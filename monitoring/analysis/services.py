"""Looks at all series of a host, and keeps what was found."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from monitoring import news
from monitoring.analysis import selectors
from monitoring.analysis.speeds import why
from monitoring.analysis.study import (
    Candidate,
    Kind,
    believed_of_look,
    believed_of_study,
    look,
    study,
)
from monitoring.analysis.usual import DAY_S
from monitoring.models import Analysis, Baseline, Finding, Series
from monitoring.services import record_event

STUDY_EVERY = timedelta(hours=1)
# While something is unlike its past, the past stays as it was; what lasts a day is usual by then.
PAST_STAYS = timedelta(days=1)
NOT_SEEN = timedelta(hours=1)  # a series that is gone says nothing any more
ENDS_AFTER = 3  # looks in a row
CHANGED_BY = 1.5  # times the size that it was dismissed with
# So near to the beginning of the leading one another has to begin to be one incident with it.
TOGETHER = {Kind.ANOMALY: timedelta(minutes=5), Kind.CHANGE: timedelta(hours=1)}
ENDED_KEPT = timedelta(days=90)
NOT_YET_S = 3  # the newest samples may be on their way
SLOWED = (Kind.ANOMALY, Kind.CHANGE, Kind.TREND)
STUDIED = (Kind.FORECAST, Kind.TREND, Kind.CHANGE, Kind.VOLATILITY)


def look_at_series(host: str, now: datetime) -> None:
    """The newest minutes against what is usual; once an hour the last weeks as well."""
    row, _ = Analysis.objects.get_or_create(host=host)
    if row.studied_at is None or not timedelta(0) <= now - row.studied_at < STUDY_EVERY:
        study_series(row, now)
    usual = selectors.baselines(host)
    windows = selectors.newest_windows(host, list(usual), int(now.timestamp()) - NOT_YET_S)
    judged = [
        found
        for name, known in usual.items()
        if (found := look(name, known, windows.start, windows.means[name], windows.states)) is not None
    ]
    believed = {each.series for each in believed_of_look(judged)}
    with transaction.atomic():
        for finding in selectors.open_findings(host).filter(kind=Kind.ANOMALY):
            found = next((each for each in judged if each.series == finding.series), None)
            if found is None:
                if not timedelta(0) <= now - finding.seen_at < NOT_SEEN:
                    _end(finding, now)
            elif found.facts["is_usual"]:
                _miss(finding, now)
            elif finding.series not in believed:  # not yet back, though alone no reason to begin
                _see(finding, found, now)
        _keep((each for each in judged if each.series in believed), host, now)
        row.looked_at, row.n_judged = now, len(judged)
        row.save()


def study_series(row: Analysis, now: datetime) -> None:
    """Trends, forecasts, changes of level and scatter; and what is usual, anew."""
    host = row.host
    names, n_left_out = selectors.series_to_study(host)
    ids = dict(Series.objects.filter(host=host, name__in=names).values_list("name", "id"))
    stays = set(
        selectors.open_findings(host)
        .filter(kind=Kind.ANOMALY, found_at__gt=now - PAST_STAYS)
        .values_list("series", flat=True)
    )
    candidates: list[Candidate] = []
    since, n = None, 0
    for past in selectors.pasts(host, names, int(now.timestamp())):
        found = study(past.name, past.start, past.minutes, past.states, past.limit, settings.HOST_TIME_ZONE)
        candidates += found.candidates
        n += 1
        if found.usual is not None:
            since = min(found.usual.since, since or found.usual.since)
            if past.name not in stays:
                values = {"at": now, "usual": found.usual.as_json()}
                Baseline.objects.update_or_create(series_id=ids[past.name], defaults=values)
    believed = believed_of_study(candidates)
    with transaction.atomic():
        seen = {(each.kind.value, each.series) for each in believed}
        for finding in selectors.open_findings(host).filter(kind__in=STUDIED):
            if (finding.kind, finding.series) not in seen:
                _miss(finding, now)
        _keep(believed, host, now)
        Finding.objects.filter(host=host, ended_at__lt=now - ENDED_KEPT).delete()
        row.studied_at, row.n_series, row.n_left_out, row.n_tests = now, n, n_left_out, len(candidates)
        row.since = None if since is None else datetime.fromtimestamp(since, UTC)
        row.save()
        news.tell("insight", 0)


def _keep(believed: Iterable[Candidate], host: str, now: datetime) -> None:
    """The first to begin, of several the least likely one, leads its incident; only that one is an event."""
    for each in sorted(believed, key=lambda found: (found.began, found.p)):
        began = datetime.fromtimestamp(each.began, UTC)
        open_one = selectors.open_findings(host).filter(kind=each.kind, series=each.series).first()
        if open_one is not None:
            _see(open_one, each, now)
            continue
        leader = _leader_of(host, each.kind, began)
        finding = Finding.objects.create(
            host=host,
            series=each.series,
            kind=each.kind,
            leader=leader,
            p=each.p,
            size=each.size,
            facts=_facts(host, each, began, now),
            began_at=began,
            found_at=now,
            seen_at=now,
        )
        news.tell("insight", finding.pk)
        if leader is not None:
            _forget_dismissal(leader)  # it has become another one
        elif each.kind is Kind.ANOMALY:
            event = record_event(host=host, at=now.timestamp(), kind="insight", text=str(finding))
            shown = {"at": now.timestamp(), "kind": event.kind, "text": event.text}
            news.tell("event", event.pk, event=shown)


def _leader_of(host: str, kind: Kind, began: datetime) -> Finding | None:
    if kind not in TOGETHER:
        return None
    near = (began - TOGETHER[kind], began + TOGETHER[kind])
    leading = selectors.open_findings(host).filter(kind=kind, leader=None, began_at__range=near)
    return leading.order_by("began_at", "pk").first()


def _facts(host: str, found: Candidate, began: datetime, now: datetime) -> dict[str, Any]:
    """With what was otherwise while models were slow: kept here, since the samples that tell it are not kept for ever."""
    if found.size >= 0 or found.kind not in SLOWED:
        return found.facts
    start = began.timestamp() if found.kind is not Kind.TREND else now.timestamp() - DAY_S
    told = [each.as_json() for each in why(host, found.series, int(start), now.timestamp())]
    return {**found.facts, "why": told} if told else found.facts


def _see(finding: Finding, found: Candidate, now: datetime) -> None:
    if finding.kind != Kind.ANOMALY:  # of an anomaly: when it began
        finding.began_at = datetime.fromtimestamp(found.began, UTC)
    finding.p, finding.size = found.p, found.size
    finding.facts = _facts(finding.host, found, finding.began_at, now)
    finding.seen_at, finding.n_missed = now, 0
    # Not who leads, nor what a person said of it meanwhile.
    finding.save(update_fields=["began_at", "p", "size", "facts", "seen_at", "n_missed"])
    if finding.dismissed_at is not None and has_changed(finding.dismissed_size or 0.0, found.size):
        _forget_dismissal(finding)


def has_changed(then: float, size: float) -> bool:
    """It turned round, or there is half as much again of it."""
    return then * size < 0 or abs(size) >= CHANGED_BY * abs(then)


def _miss(finding: Finding, now: datetime) -> None:
    finding.n_missed += 1
    if finding.n_missed >= ENDS_AFTER:
        _end(finding, now)
    else:
        finding.save(update_fields=["n_missed"])


def _end(finding: Finding, now: datetime) -> None:
    """Where others of its incident go on, the next one leads them."""
    finding.ended_at = now
    heir = finding.members.filter(ended_at=None).order_by("began_at", "pk").first()
    if heir is not None:
        finding.members.update(leader=heir)
        Finding.objects.filter(pk=heir.pk).update(leader=None)
        Finding.objects.filter(pk=finding.pk).update(leader=heir)
    finding.save(update_fields=["ended_at", "n_missed"])
    news.tell("insight", finding.pk)


class EndedError(Exception):
    """The finding has ended meanwhile."""


@transaction.atomic
def dismiss(finding_id: int, *, who: str, why: str, now: datetime) -> None:
    """Its whole incident. Raises EndedError."""
    for each in _incident(_open(finding_id)).filter(ended_at=None):
        each.dismissed_at, each.dismissed_by, each.dismissed_why = now, who, why
        each.dismissed_size = each.size
        each.save()
        news.tell("insight", each.pk)


@transaction.atomic
def show_again(finding_id: int) -> None:
    """Its whole incident. Raises EndedError."""
    _forget_dismissal(_open(finding_id))


def _open(finding_id: int) -> Finding:
    finding = Finding.objects.select_for_update().filter(pk=finding_id, ended_at=None).first()
    if finding is None:
        raise EndedError
    return finding


def _incident(finding: Finding) -> QuerySet[Finding]:
    leading = finding.leader_id or finding.pk
    return Finding.objects.filter(Q(pk=leading) | Q(leader=leading))


def _forget_dismissal(finding: Finding) -> None:
    """Of its whole incident."""
    _incident(finding).update(dismissed_at=None, dismissed_size=None, dismissed_by="", dismissed_why="")
    news.tell("insight", finding.pk)
