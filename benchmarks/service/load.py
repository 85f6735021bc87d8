"""The service under load, on loopback: what HTTP adds to a searcher, what batching brings, what happens in overload.

    python benchmarks/service/load.py

A store of the motif collection (250 pictures, 14 windows each) is served by recipe late-interaction, twice: batches on
and off (``batch: 1``). Clients are of this process: bare HTTP/1.1 over asyncio, each with a connection that it keeps.
Service and clients share the machine's cores, and torch has one thread in each. Answers must equal the searcher's
before anything is timed.

one client   a request, and the same query asked of a searcher in this process, in turn; the overhead is the median of
             their differences; and what of the cores' time each took
closed loop  1, 8 and 64 clients that ask again as soon as they are answered; services take turns in rounds
overload     requests at ten times the throughput of 64 clients, sent when they are due and not when the last was
             answered; those that no connection is free for are counted and not sent
recovery     one client, half a second after the overload
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from heritage_align import build_index, dataset_sources, load_recipe
from heritage_align.bench.goals import judged_value
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.search import Searcher
from heritage_align.types import TextItem

RESULTS = Path(__file__).parents[1] / "results"
ROOT = Path(__file__).parents[2]
CLIENTS = (1, 8, 64)
CONNECTIONS = 512
OVERLOAD = 10


@dataclass
class Times:
    """Seconds by status, and how many were not sent."""

    by_status: dict[int, list[float]] = field(default_factory=dict)
    not_sent: int = 0
    seconds: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Keep one."""
        self.by_status.setdefault(status, []).append(seconds)

    def summary(self) -> dict[str, Any]:
        """Return throughput, and p50 and p99 of each status, in seconds."""
        told: dict[str, Any] = {"seconds": round(self.seconds, 2), "not_sent": self.not_sent}
        for status, times in sorted(self.by_status.items()):
            cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
            told[str(status)] = {
                "count": len(times),
                "per_second": round(len(times) / self.seconds, 2),
                "p50": cuts[49],
                "p99": cuts[98],
            }
        return told


class Client:
    """One connection, kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, text: str) -> tuple[int, bytes]:
        """Send a search and return the status and the body."""
        body = json.dumps({"text": text, "k": 10}).encode()
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(
            b"POST /search HTTP/1.1\r\nhost: b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = await self._reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), answer

    def close(self) -> None:
        """End the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class Service:
    """A service of its own process."""

    def __init__(self, config: Path, store: Path, folder: Path, **settings: Any) -> None:
        file = folder / f"settings-{len(list(folder.glob('settings-*')))}.yaml"
        file.write_text(yaml.safe_dump({"connections": 4 * CONNECTIONS, **settings}))
        command = ["-m", "heritage_align", "serve", str(config), "--store", str(store), "--settings", str(file)]
        path = os.pathsep.join([str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")])
        self._log = (folder / f"{file.stem}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, *command, "--port", "0"],
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self.port = self._listening()

    def _listening(self) -> int:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for line in Path(self._log.name).read_text().splitlines():
                if '"listening"' in line:
                    port: int = json.loads(line)["port"]
                    return port
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(Path(self._log.name).read_text())

    def cpu_seconds(self) -> float:
        """Return the time that its threads had of the cores."""
        ticks = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._log.close()


async def closed_loop(port: int, clients: int, seconds: float, texts: Sequence[str]) -> Times:
    """Let clients ask again as soon as they are answered."""
    times, all_of_them = Times(), [Client(port) for _ in range(clients)]
    await asyncio.gather(*(client.ask(texts[0]) for client in all_of_them))
    start = time.perf_counter()

    async def ask(number: int, client: Client) -> None:
        chance = random.Random(number)
        while (begun := time.perf_counter()) - start < seconds:
            status, _ = await client.ask(chance.choice(texts))
            times.add(status, time.perf_counter() - begun)
        client.close()

    await asyncio.gather(*(ask(number, client) for number, client in enumerate(all_of_them)))
    times.seconds = time.perf_counter() - start
    return times


async def open_loop(port: int, rate: float, seconds: float, texts: Sequence[str]) -> Times:
    """Send requests at a rate, whatever becomes of them."""
    times, chance = Times(), random.Random(0)
    free = [Client(port) for _ in range(CONNECTIONS)]
    for start in range(0, CONNECTIONS, 32):  # connected before the clock starts
        await asyncio.gather(*(client.ask(texts[0]) for client in free[start : start + 32]))
    tasks: set[asyncio.Task[None]] = set()

    async def ask(client: Client, due: float) -> None:
        status, _ = await client.ask(chance.choice(texts))
        times.add(status, time.perf_counter() - due)
        free.append(client)

    begin = time.perf_counter()
    sent = 0
    while (now := time.perf_counter() - begin) < seconds:
        due = int(now * rate) - sent
        for _ in range(due):
            sent += 1
            if not free:
                times.not_sent += 1
                continue
            task = asyncio.create_task(ask(free.pop(), time.perf_counter()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.001)
    times.seconds = time.perf_counter() - begin
    await asyncio.gather(*tasks)
    for client in free:
        client.close()
    return times


async def paired(service: Service, rounds: int, texts: Sequence[str], searcher: Searcher) -> dict[str, float]:
    """Ask service and searcher in turn; return p10 and p50 of both and the p50 of their difference, in seconds.

    Beside them the time that each had of the cores, which others on the machine change less.
    """
    client, ours, theirs = Client(service.port), list[float](), list[float]()
    cpu, begun_at = 0.0, 0.0

    async def of_service(text: str) -> float:
        begun = time.perf_counter()
        status, _ = await client.ask(text)
        assert status == 200
        return time.perf_counter() - begun

    def of_searcher(text: str) -> float:
        nonlocal cpu
        begun, of_process = time.perf_counter(), time.process_time()
        searcher.hits([TextItem("q", text)], top_k=10)
        cpu += time.process_time() - of_process
        return time.perf_counter() - begun

    for number in range(rounds + 10):
        if number == 10:
            begun_at, cpu = service.cpu_seconds(), 0.0
        text = texts[number % len(texts)]
        if number % 2:
            with_http, alone = await of_service(text), of_searcher(text)
        else:
            alone, with_http = of_searcher(text), await of_service(text)
        if number >= 10:
            ours.append(with_http)
            theirs.append(alone)
    client.close()
    return {
        "service_p50": statistics.median(ours),
        "searcher_p50": statistics.median(theirs),
        "overhead_p50": statistics.median(a - b for a, b in zip(ours, theirs)),
        "service_p10": statistics.quantiles(ours, n=10)[0],
        "searcher_p10": statistics.quantiles(theirs, n=10)[0],
        "service_cpu": (service.cpu_seconds() - begun_at) / rounds,
        "searcher_cpu": cpu / rounds,
    }


async def refuse_differences(port: int, texts: Sequence[str], searcher: Searcher) -> float:
    """Raise AssertionError where an answer is not the searcher's; return the largest difference of a score."""
    client, largest = Client(port), 0.0
    for text in texts:
        _, body = await client.ask(text)
        [hits] = searcher.hits([TextItem("q", text)], top_k=10)
        found = {hit["id"]: hit["score"] for hit in json.loads(body)["hits"]}
        wanted = {hit.id: hit.score for hit in hits}
        if found.keys() != wanted.keys():
            raise AssertionError(f"{text}: the service answers {list(found)}, the searcher {list(wanted)}")
        largest = max(largest, *(abs(found[image_id] - score) for image_id, score in wanted.items()))
    client.close()
    if largest > 1e-5:
        raise AssertionError(f"scores differ by {largest}")
    return largest


def goals(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge what was measured."""
    at_64, overload, loops = report["closed_loop"]["batching, 64 clients"], report["overload"], report["closed_loop"]
    single = report["closed_loop"]["one by one, 64 clients"]
    values: list[tuple[str, str, float, float, float]] = [
        ("one client: ms above the searcher, p50", "at most", report["one_client"]["overhead_p50"] * 1e3, 3.0, 1.0),
        (
            "one client: p50 with batching over without",
            "at most",
            loops["batching, 1 clients"]["200"]["p50"] / loops["one by one, 1 clients"]["200"]["p50"],
            1.1,
            1.02,
        ),
        (
            "64 clients: throughput with batching over without",
            "at least",
            at_64["200"]["per_second"] / single["200"]["per_second"],
            1.2,
            2.0,
        ),
        ("overload: ms until a request is shed, p99", "at most", overload["429"]["p99"] * 1e3, 50.0, 20.0),
        (
            "overload: p99 of served requests over that of 64 clients",
            "at most",
            overload["200"]["p99"] / at_64["200"]["p99"],
            2.0,
            1.2,
        ),
        (
            "half a second after overload: p50 of one client over that before",
            "at most",
            report["recovery"]["200"]["p50"] / loops["batching, 1 clients"]["200"]["p50"],
            1.5,
            1.1,
        ),
    ]
    return [
        judged_value(text, round(value, 4), accept, stretch, at_least=kind == "at least", commit=report["commit"])
        for text, kind, value, accept, stretch in values
    ]


def merged(parts: Sequence[Times]) -> Times:
    """Put rounds together."""
    whole = Times(not_sent=sum(part.not_sent for part in parts), seconds=sum(part.seconds for part in parts))
    for part in parts:
        for status, times in part.by_status.items():
            whole.by_status.setdefault(status, []).extend(times)
    return whole


def measure(services: dict[str, Service], texts: Sequence[str], searcher: Searcher, rounds: int, seconds: float) -> Any:
    """Run all that the page above names."""
    batching = services["batching"].port
    run: Callable[[Any], Any] = asyncio.run
    report: dict[str, Any] = {
        "largest_difference_of_a_score": max(
            run(refuse_differences(service.port, texts[:20], searcher)) for service in services.values()
        ),
        "one_client": run(paired(services["batching"], 100 * rounds, texts, searcher)),
    }
    found: dict[str, list[Times]] = {}
    for _ in range(rounds):
        for clients in CLIENTS:
            for name, service in services.items():
                times = run(closed_loop(service.port, clients, seconds, texts))
                found.setdefault(f"{name}, {clients} clients", []).append(times)
    report["closed_loop"] = {name: merged(times).summary() for name, times in found.items()}
    capacity = report["closed_loop"]["batching, 64 clients"]["200"]["per_second"]
    overload = run(open_loop(batching, OVERLOAD * capacity, 2 * seconds, texts))
    report["overload"] = {"capacity": capacity, "asked_per_second": OVERLOAD * capacity, **overload.summary()}
    time.sleep(0.5)
    report["recovery"] = run(closed_loop(batching, 1, seconds, texts)).summary()
    return report


def main() -> None:
    """Build, serve, measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one closed loop")
    parser.add_argument("--window", type=float, default=0.001, help="batch_window of the service with batches")
    parser.add_argument("--store", type=Path, help="keep the store here, and use it if it is there")
    parser.add_argument("--out", type=Path, default=RESULTS / "service.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as the services do
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = arguments.store or folder / "store"
        config = load_recipe("late-interaction", ["data.variants=2", "fragmenter.name=punctuation"])
        pipeline, dataset = Pipeline(config), build_dataset(config)
        if not store.exists():
            build_index(pipeline, list(dataset_sources(dataset)), store)
        (folder / "config.yaml").write_text(config.to_yaml())
        texts = [item.text for item in dataset.texts[::5]]
        searcher = Searcher.open(pipeline, store)
        options = {"batching": {"batch_window": arguments.window}, "one by one": {"batch": 1}}
        services = {n: Service(folder / "config.yaml", store, folder, **more) for n, more in options.items()}
        before = os.getloadavg()
        try:
            report = {
                "commit": commit(),
                "machine": machine_facts(torch.device("cpu")),
                "load_average_before": before,
                "settings": {"rounds": arguments.rounds, "seconds": arguments.seconds, "window": arguments.window},
                **measure(services, texts, searcher, arguments.rounds, arguments.seconds),
            }
        finally:
            for service in services.values():
                service.stop()
    report["load_average_after"] = os.getloadavg()
    report["goals"] = goals(report)
    show(report)
    arguments.out.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    print(f"wrote {arguments.out}")


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    print({name: round(value * 1e3, 2) for name, value in report["one_client"].items()}, "ms")
    for name, row in [*report["closed_loop"].items(), ("overload", report["overload"]), ("after", report["recovery"])]:
        for status in ("200", "429"):
            if status in row:
                found = row[status]
                print(
                    f"{name:<26}{status} {found['per_second']:8.1f}/s  p50 {found['p50'] * 1e3:8.2f} ms  "
                    f"p99 {found['p99'] * 1e3:8.2f} ms  not sent {row['not_sent']}"
                )
    for goal in report["goals"]:
        print(f"{goal['goal']:<70}{goal['verdict']:>10} {goal['value']}")


if __name__ == "__main__":
    main()
