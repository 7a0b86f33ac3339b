"""The flow log of a host: sampled flows as lines of JSON, while the inventory asks for it.

Reading samples stands beside the datapath: whatever goes wrong with the log, packets and changes do not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path

from xds_agent.datapath.program import Generation
from xds_agent.datapath.sampling import Ask, Tap, TapTaken
from xds_agent.node.datapath.figures import HOST
from xds_agent.node.datapath.flows import FlowTable
from xds_agent.node.datapath.wanted import Limits

log = logging.getLogger(__name__)

FILE = "flows.jsonl"
# The file and as many older ones: 128 MiB at most.
_FILE_BYTES, _OLDER_FILES = 32 << 20, 3
# Samples wait this long in a ring of so many bytes, 80 each: 26,000 samples a second. What comes beyond is
# counted as note_sample_lost.
LOOK_S, RING_BYTES = 0.25, 1 << 19


class FlowLog:
    """Follows what is asked of it, and writes; `run` it beside the datapath."""

    def __init__(self, folder: Path, told: Callable[[], Awaitable[None]] | None = None) -> None:
        """`told` is called when `problem` is another one."""
        self._told = told
        self.file = folder / FILE
        self.problem = ""
        self._wanted = self._read = Limits()
        self._services: dict[int, str] = {0: HOST}
        self._generation: Generation | None = None
        self._tap: Tap | None = None
        self._table = FlowTable()
        self._began = 0.0
        self._out: _File | None = None
        # Samples are read in a thread, which may be at it when `run` is cancelled.
        self._reading = threading.Lock()

    def follow(self, generation: Generation, services: Mapping[str, int], limits: Limits) -> None:
        """What the revision says. A service that is gone keeps its name in what was sampled before."""
        self._generation, self._wanted = generation, limits
        self._services = {**self._services, **{number: name for name, number in services.items()}}

    def describe(self) -> dict[str, object]:
        """For whoever asks what the datapath does."""
        return {"one_in": self._wanted.flow_log_one_in, "file": str(self.file), "problem": self.problem}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                if self._wanted.flow_log_one_in or self._tap is not None or self.problem:
                    before = self.problem
                    await asyncio.to_thread(self._look)
                    if self.problem != before and self._told is not None:
                        await self._told()
        finally:
            with self._reading:
                self._end()

    def _look(self) -> None:
        with self._reading:
            try:
                if self._read.flow_log_one_in != self._wanted.flow_log_one_in:
                    self._end()
                self._read = self._wanted
                self._open_tap()
                if self._tap is not None:
                    self._table.add(self._tap.read())
                    due = time.time() - self._began >= self._read.flow_log_every_s
                    # What could not be written is told until something is.
                    if due and self._write():
                        self._tell("")
                else:
                    self._tell("")
            except TapTaken:
                # For some seconds after this agent's predecessor was killed.
                pass
            except OSError as error:
                self._tell(f"the flow log is not written: {error}")
                self._end()

    def _open_tap(self) -> None:
        if self._tap is None and self._read.flow_log_one_in and self._generation is not None:
            ask = Ask(one_in=self._read.flow_log_one_in)
            self._tap = Tap(self._generation, "flows", ask, ring_bytes=RING_BYTES)
            self._began = time.time()

    def _write(self) -> bool:
        """Whether there was anything to write. Raises OSError; what could not be written is gone."""
        now, one_in = time.time(), self._read.flow_log_one_in
        lines = self._table.take(self._services, start_s=self._began, end_s=now, one_in=one_in)
        self._began = now
        if not lines:
            return False
        if self._out is None:
            self._out = _File(self.file, maxBytes=_FILE_BYTES, backupCount=_OLDER_FILES, encoding="ascii")
        for line in lines:
            self._out.line(json.dumps(line))
        return True

    def _tell(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.error("%s", problem)
        self.problem = problem

    def _end(self) -> None:
        """Write what there is, and read no more."""
        if self._tap is None:
            return
        self._tap.close()
        self._tap = None
        with contextlib.suppress(OSError):
            self._write()
        if self._out is not None:
            self._out.close()
            self._out = None


class _File(RotatingFileHandler):
    """Lines into a file that turns over by itself."""

    def line(self, text: str) -> None:
        """Raises OSError."""
        self.emit(logging.makeLogRecord({"msg": text}))

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # noqa: PLE0704 - within emit's except
