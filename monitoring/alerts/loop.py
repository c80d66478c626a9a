"""The collector's alert thread: takes each sample in turn, evaluates, and stores what changed before it takes the next.

While the database is away samples wait here with their own times, so that no transition is lost or shifted."""

import logging
import threading
from collections import deque
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, close_old_connections, connections

from monitoring.alerts import selectors
from monitoring.alerts.evaluator import Evaluator, Step
from monitoring.alerts.machine import Memory
from monitoring.alerts.past import prime_from_store
from monitoring.alerts.recording import StaleStepError, record_step
from monitoring.alerts.services import keep_default_rules, note_peaks
from monitoring.models import RulesRevision, RuleState
from monitoring.selectors import series_names

MAX_WAITING = 3600  # samples; the oldest go, and count as missing data then
REREAD_EVERY_S, PEAKS_EVERY_S, RETRY_S = 2.0, 60.0, 1.0
log = logging.getLogger("monitoring.alerts")


class AlertLoop:
    """`feed` from the sampling loop; `start` and `close` its thread. `take_next` is one sample's turn."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.waiting: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)
        self._evaluator: Evaluator | None = None
        self._revision: int | None = None
        self._reread_at = self._peaks_at = 0.0
        self._peaks: dict[str, float] = {}
        self._unstored: list[Step] = []
        self._more, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._away = False
        self._fed_at = self._judged_at = 0.0

    def feed(self, sample: dict[str, Any]) -> None:
        if not self._fed_at:
            self._judged_at = sample["at"]
        self._fed_at = sample["at"]
        self.waiting.append(sample)
        self._more.set()

    @property
    def lag_s(self) -> float:
        """How far the newest sample that was judged, and stored where it changed something, is behind the newest fed."""
        return max(self._fed_at - self._judged_at, 0.0)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        self._end.set()
        self._more.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._end.is_set():
            self._more.wait()
            self._more.clear()
            while self.waiting and not self._end.is_set():
                if not self.take_next():
                    self._end.wait(RETRY_S)
        with suppress(DatabaseError):  # the last chance
            self.store_unstored()
        connections.close_all()

    def take_next(self) -> bool:
        """The oldest waiting sample's turn; False when the database is away and it has to wait."""
        try:
            self._take_next()
        except DatabaseError as error:
            if not self._away:
                log.warning("alerts wait for the database: %s", error)
            self._away = True
            close_old_connections()
            return False
        except Exception:
            log.exception("a sample could not be evaluated; the next one is tried")
            self._evaluator, self._unstored = None, []
            if self.waiting:
                self.waiting.popleft()
            return True
        if self._away:
            log.info("alerts are evaluated again")
        self._away = False
        return True

    def _take_next(self) -> None:
        self.store_unstored()
        evaluator = self._ready(self.waiting[0]["at"])
        # From here on the sample is used up: what it changed is in _unstored until it is stored.
        sample = self.waiting.popleft()
        self._unstored += evaluator.evaluate(sample["at"], sample["v"])
        self.store_unstored()
        self._judged_at = sample["at"]
        self._note_peaks(evaluator, sample["at"])

    def store_unstored(self) -> None:
        while self._unstored:
            try:
                record_step(self._unstored[0])
            except StaleStepError:
                self._evaluator, self._unstored = None, []  # read all anew at the next sample
                return
            self._unstored.pop(0)

    def _ready(self, at: float) -> Evaluator:
        """The evaluator, made anew when rules or states were changed by somebody else."""
        if self._evaluator is None or abs(at - self._reread_at) >= REREAD_EVERY_S:
            if self._revision is None:
                keep_default_rules()
            row = RulesRevision.objects.filter(pk=RulesRevision.ROW).first()
            revision = row.number if row is not None else 0
            if self._evaluator is None or revision != self._revision:
                self._evaluator, self._revision = self._load(at), revision
            self._reread_at = at
        return self._evaluator

    def _load(self, at: float) -> Evaluator:
        rules = selectors.rules_to_evaluate()
        evaluator = Evaluator(self.host, rules)
        by_id = {rule.id: rule for rule in rules}
        for state in RuleState.objects.filter(host=self.host, rule_id__in=by_id).select_related("alert"):
            watched = evaluator.add(by_id[state.rule_id], state.series)
            watched.memory, watched.seq = Memory.from_json(state.memory), state.seq
            watched.peak = state.alert.peak if state.alert is not None else None
        names = series_names(self.host)
        self._unstored += evaluator.miss(prime_from_store(evaluator, int(at), names))
        return evaluator

    def _note_peaks(self, evaluator: Evaluator, at: float) -> None:
        """Now and then, so that a restart and the page know how far it went."""
        if abs(at - self._peaks_at) < PEAKS_EVERY_S:
            return
        self._peaks_at = at
        peaks = {
            mark: each.peak
            for mark, each in evaluator.watched.items()
            if each.memory.open and each.peak is not None
        }
        if changed := {mark: peak for mark, peak in peaks.items() if self._peaks.get(mark) != peak}:
            note_peaks(changed)
        self._peaks = peaks
