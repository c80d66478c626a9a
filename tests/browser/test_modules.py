"""The page's own modules in a real browser, with samples that no machine here gives: many GPUs, a whole hour."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

GPUS = """async ([n, missing]) => {
    const { drawGpus } = await import('/static/js/live/gpus.js');
    const root = document.createElement('div'), columns = document.createElement('section');
    const v = {}, gpus = [];
    for (let i = 0; i < n; i += 1) {
        const index = missing ? 100 + i : i;
        gpus.push({ index, name: `Card ${i}`, driver: '580.65', throttle: i ? [] : ['power cap'],
            missing: missing ? { power_w: 'not offered by the driver' } : undefined });
        Object.assign(v, { [`gpu_util_percent{gpu=${index}}`]: 91, [`gpu_memory_used_bytes{gpu=${index}}`]: 6 * 2 ** 30,
            [`gpu_memory_total_bytes{gpu=${index}}`]: 12 * 2 ** 30, [`gpu_power_w{gpu=${index}}`]: missing ? null : 196,
            [`gpu_power_limit_w{gpu=${index}}`]: missing ? null : 200, [`gpu_temperature_celsius{gpu=${index}}`]: 74 });
    }
    const models = [{ name: 'm', vram_bytes: 3 * 2 ** 30 }];
    drawGpus(root, columns, { v, state: { gpus, gpu_reason: 'no driver', models } });
    return [root.children.length, columns.className, root.textContent];
}"""
HOUR = """async (seconds) => {
    const [{ Charts }, { Window }, { drawFigures }, { Lane }] = await Promise.all(
        ['charts', 'window', 'figures', 'lane'].map(name => import(`/static/js/live/${name}.js`)));
    if (!globalThis.hour) {
        const metrics = JSON.parse(document.getElementById('metrics').textContent);
        const w = new Window(metrics), root = document.createElement('section'), strip = document.createElement('div');
        const kpis = document.createElement('section');
        root.className = 'charts';
        document.getElementById('main').append(root, strip, kpis);
        const lane = new Lane(strip, () => {});
        globalThis.hour = { w, lane, kpis, at: 1e9, metrics, charts: new Charts(root, w, { events: () => lane.events }) };
    }
    const { hour } = globalThis;
    for (const end = hour.at + seconds; hour.at < end; hour.at += 1) {
        const v = Object.fromEntries(hour.metrics.map(name => [name, Math.random() * 100]));
        v[`network_receive_bytes_per_s{interface=n${Math.floor(hour.at / 100)}}`] = 1; // interfaces come and go
        const sample = { at: hour.at, host: 'h', v, state: {}, events: [] };
        hour.w.push(sample);
        if (hour.at % 20 === 0) hour.lane.add([{ at: hour.at, kind: 'model', text: 'm loaded' }]);
        drawFigures(hour.kpis, sample, hour.w);
        hour.lane.draw(hour.at);
        hour.charts.draw();
        if (hour.at % 50 === 0) await new Promise(done => setTimeout(done));
    }
    const lengths = [...hour.w.series.values()].map(values => values.length);
    return { nodes: document.querySelectorAll('*').length, series: lengths.length, lengths: [...new Set(lengths)],
        times: hour.w.times.length, events: hour.lane.events.length, last: hour.w.times.at(-1) };
}"""


@pytest.mark.parametrize(("n", "layout"), [(1, "one-gpu"), (2, "many-gpus"), (8, "many-gpus")])
def test_each_gpu_has_a_card(page: Page, n: int, layout: str) -> None:
    cards, columns, text = page.evaluate(GPUS, [n, False])
    assert (cards, columns) == (n, layout)
    assert "Card 0driver 580.65" in text
    assert "6.00 / 12.0 GB" in text
    assert "196 / 200 W" in text
    assert "Clocks held back: power cap." in text
    assert ("m 3.00 GB, other 3.00 GB, free 6.00 GB" in text) == (n == 1)


def test_what_a_gpu_does_not_tell_is_unknown_and_why(page: Page) -> None:
    _, _, text = page.evaluate(GPUS, [1, True])
    assert "Power– W" in text
    assert "Not read: power w (not offered by the driver)." in text


def test_no_gpu_says_why(page: Page) -> None:
    cards, columns, text = page.evaluate(GPUS, [0, False])
    assert (cards, columns) == (1, "")
    assert "No GPU found: no driver." in text
    expect(page.locator("#gpus")).to_contain_text("GPU")


def test_an_hour_of_samples_grows_nothing(page: Page) -> None:
    page.route_web_socket("**/ws/live/", lambda socket: None)
    page.reload()
    expect(page.locator(".kpi")).not_to_have_count(0)
    session = page.context.new_cdp_session(page)

    def after(seconds: int) -> tuple[dict[str, Any], float]:
        state = page.evaluate(HOUR, seconds)
        session.send("HeapProfiler.collectGarbage")
        return state, session.send("Runtime.getHeapUsage")["usedSize"]

    early, early_heap = after(1000)
    late, late_heap = after(2700)
    assert (late["times"], late["lengths"], late["last"]) == (900, [900], 1e9 + 3699)
    assert late["series"] == early["series"]
    assert late["events"] == early["events"] == 45
    assert late["nodes"] <= early["nodes"] + 5
    assert late_heap < early_heap * 1.1 + 500_000


def test_a_second_without_a_sample_is_a_gap_in_every_series(page: Page) -> None:
    assert page.evaluate(
        """async () => {
            const { Window } = await import('/static/js/live/window.js'), w = new Window(['a']);
            w.push({ at: 100.2, v: { 'a{x=1}': 1, b: 9 } });
            w.push({ at: 103.9, v: { 'a{x=1}': 2, 'a{x=2}': 5 } });
            return [w.times.slice(-4), w.get('a{x=1}').slice(-4), w.combined('a').slice(-4), w.names('b')];
        }"""
    ) == [[100, 101, 102, 103], [1, None, None, 2], [1, None, None, 7], []]


def test_a_clock_that_is_set_back_begins_the_window_anew(page: Page) -> None:
    """By an hour as by a minute: else nothing would be drawn until the old time comes again."""
    assert page.evaluate(
        """async () => {
            const { Window } = await import('/static/js/live/window.js'), w = new Window(['a']);
            w.push({ at: 5000, v: { a: 1 } });
            w.push({ at: 4998, v: { a: 2 } });
            const soon = [w.times.at(-1), w.get('a').slice(-3)];
            w.push({ at: 1400, v: { a: 3 } });
            return [soon, w.times.at(-1), w.get('a').slice(-2)];
        }"""
    ) == [[5000, [2, None, 1]], 1400, [None, 3]]


def test_numbers_keep_their_width_and_unknown_is_a_dash(page: Page) -> None:
    assert page.evaluate(
        """async () => {
            const f = await import('/static/js/live/format.js');
            return [f.number(0), f.number(3.84, 2), f.number(38.44), f.number(384.4), f.number(null), f.number(NaN),
                f.percent(9.96), f.percent(0.04), f.percent(91.2), f.bytes(1023), f.bytes(1024), f.bytes(5.6e9),
                f.byteRate(999_960), f.bytesOf(8.3e9, 12 * 2 ** 30), f.milliseconds(8.44), f.milliseconds(999),
                f.milliseconds(1234), f.duration(59),
                f.duration(61), f.duration(4000), f.until('2318-01-01T00:00:00Z', 0), f.percent(25, false)];
        }"""
    ) == [
        *("0", "3.84", "38.4", "384", "–", "–"),
        *("10 %", "0.0 %", "91 %", "1,023 B", "1.00 KB", "5.22 GB", "1.00 MB/s"),
        *("7.73 / 12.0 GB", "8.4 ms", "999 ms", "1.23 s"),
        *("59 s", "1:01 min", "1 h 06 min", "kept", "25 %"),
    ]


def test_labels_of_an_axis_find_room_and_legends_say_every_digit(page: Page) -> None:
    said = page.evaluate(
        """async () => {
            const { formatOf } = await import('/static/js/history/scale.js');
            return [['', 43048960, false], ['', 43048960, true], ['', 99999, false], ['J', 5e6, false], ['J', 5e6, true],
                ['%', 50, false]]
                .map(([unit, value, exact]) => formatOf(unit)(value, exact));
        }"""
    )
    assert said == ["43M", "43,048,960", "99,999", "5M", "5,000,000 J", "50 %"]


def test_neighbours_on_an_axis_never_read_the_same(page: Page) -> None:
    said = page.evaluate(
        """async () => {
            const { axisTexts, valueAxis } = await import('/static/js/history/scale.js');
            return [[99, 100, '%'], [0, 100, '%'], [23.5 * 2 ** 30, 23.51 * 2 ** 30, 'B'], [43048960, 43048968, ''],
                [1500.1, 1500.4, 'ms'], [50, 50, '%']]
                .map(([low, high, unit]) => axisTexts(valueAxis(low, high, unit).values, unit));
        }"""
    )
    assert said[0] == ["99.0 %", "99.5 %", "100.0 %"]
    assert said[1] == ["0 %", "50 %", "100 %"]
    assert said[2][:2] == ["23.500 GB", "23.504 GB"]
    assert said[3][0] == "43,048,960"
    assert all(len(set(each)) == len(each) > 1 for each in said)


ROOM = """async (models) => {
    const { drawRoom } = await import('/static/js/live/models.js');
    const box = document.createElement('details');
    for (const tag of ['summary', 'div', 'p']) box.append(document.createElement(tag));
    drawRoom(box, { state: { room: { free_vram_bytes: 8 * 2 ** 30, free_memory_bytes: 16 * 2 ** 30, n_more: 2, models } } });
    const lines = [...box.querySelectorAll('.room')].map(each => [...each.children].map(one => one.textContent));
    return [box.hidden, box.children[0].textContent, lines, box.children[2].textContent];
}"""


def test_room_for_the_next_model_is_told_of_each_in_words(page: Page) -> None:
    gib = 2**30
    model = {"basis": "measured", "context": 8192, "gpu_share": 0, "short_bytes": 0}
    hidden, free, lines, note = page.evaluate(
        ROOM,
        [
            {**model, "name": "a", "n_bytes": 5 * gib, "place": "gpu"},
            {**model, "name": "b", "n_bytes": 10 * gib, "place": "split", "gpu_share": 0.8},
            {
                **model,
                "name": "c",
                "basis": "weights",
                "n_bytes": 40 * gib,
                "place": "none",
                "short_bytes": 16 * gib,
            },
            {**model, "name": "d", "basis": None, "n_bytes": None, "place": "unknown"},
        ],
    )
    assert not hidden
    assert free == "Room for the next model: 8.00 GB VRAM, 16.0 GB memory free"
    assert lines == [
        ["a", "5.00 GB", "fits on the GPU"],
        ["b", "10.0 GB", "fits in part: 80 % on the GPU"],
        ["c", "at least 40.0 GB", "does not fit: 16.0 GB short"],
        ["d", "", "unknown"],
    ]
    assert note.endswith("2 more models are not shown.")
    assert page.evaluate(ROOM, [])[0]  # nothing to tell
