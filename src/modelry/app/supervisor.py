"""`up`: starts gateway and control plane, keeps both running, and ends them in order.

It knows what runs and what each reported, nothing of what they do. A child
that ends unasked is started again. SIGHUP replaces the gateways by fresh ones,
one after another, and no caller notices: the sockets stay. When `up` itself is killed, its children
see their standard input end and go; replicas stay, and the next `up` adopts
them.
"""

import asyncio
import contextlib
import fcntl
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from modelry.app.lifeline import ATTACHED, Report, boot_of
from modelry.app.listening import open_listeners
from modelry.errors import ModelryError, SettingsError
from modelry.settings import ENV_PREFIX, Paths, Settings, secret_settings

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_START_TIMEOUT_S = 120.0
# Beyond the drain itself: the API ends (5 s), fetches stop (1 s), and an engine
# that does not heed SIGTERM is killed (5 s).
_END_MARGIN_S = 20.0
_SECRET_VARIABLES = tuple(f"{ENV_PREFIX}{name.upper()}" for name in secret_settings())


class StartFailed(ModelryError):
    """A part of Modelry did not start, for a reason of its own."""

    code = "start_failed"


@dataclass(frozen=True)
class Started:
    """What the two parts reported once both were up."""

    url: str
    port: int
    control: Report


class _Child:
    """A part's process. `begun`: it was let begin, and may have done something."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.begun = False

    async def end(self, timeout_s: float) -> None:
        """Ask it to end, and wait; kill it where it does not."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), timeout_s)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class Supervisor:
    """`on_control` is called with each control plane that has started, `on_stopping` once."""

    def __init__(
        self,
        settings: Settings,
        on_control: Callable[[Started], None],
        on_stopping: Callable[[], None],
    ) -> None:
        self._on_stopping = on_stopping
        self._settings = settings
        self._on_control = on_control
        self._port = settings.port
        self._listeners: list[list[socket.socket]] = []
        self._lock = -1
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()
        self._children: dict[str, _Child] = {}
        self._rolling: asyncio.Task[None] | None = None
        self._replaced: list[_Child] = []
        """Gateways that a fresh one stands in for, until they have ended."""

    async def start(self) -> Started | None:
        """Start both parts; None where it was told to stop before they were up.

        Raises `SettingsError` or `StartFailed`, with nothing left running.
        """
        self._settings.paths.prepare()
        self._lock = _lock(self._settings.paths)
        self._listeners = open_listeners(self._settings)
        self._port = self._listeners[0][0].getsockname()[1]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked_to_stop)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if starting.done():
            return starting.result()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await self._drop_children()
        return None

    async def _start(self) -> Started:
        try:
            # Both load at once, but the control plane touches nothing before
            # its boot line comes: a port that is taken ends the start first.
            control = await self._spawn("control")
            await asyncio.gather(*(self._start_gateway(name) for name in self._gateways))
            return await self._boot_control(control)
        except ModelryError:
            await self._drop_children()
            raise

    async def run(self) -> int:
        """Keep both parts running until asked to stop, then end them in order.

        Returns the exit status: 1 where replicas may have been left running.
        """
        names = [*self._gateways, "control"]
        keepers = [asyncio.create_task(self._keep(name)) for name in names]
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked_to_roll)
        await self._stopping.wait()
        if self._rolling is not None:
            self._rolling.cancel()
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        in_order = await self._end_children()
        self._settings.paths.local_login.unlink(missing_ok=True)
        os.close(self._lock)
        return 0 if in_order else 1

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def _gateways(self) -> list[str]:
        return ["gateway", *(f"gateway-{n}" for n in range(1, self._settings.gateway_workers))]

    def _asked_to_roll(self) -> None:
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.create_task(self._roll())

    async def _roll(self) -> None:
        """Put a fresh gateway in each one's place; the old one ends once its requests have."""
        log.warning("SIGHUP: the gateways are being replaced")
        for name in self._gateways:
            before = self._children.get(name)
            if before is not None:
                self._replaced.append(before)
            try:
                await self._start_gateway(name)
            except (ModelryError, OSError) as error:
                log.warning("the %s goes on as it is: the fresh one did not start: %s", name, error)
                if before is not None:
                    self._replaced.remove(before)
                    self._children[name] = before
                return
            if before is not None:
                await before.end(self._settings.drain_timeout_s + _END_MARGIN_S)
                self._replaced.remove(before)
        log.warning("the gateways are replaced")

    def _asked_to_stop(self) -> None:
        if self._stopping.is_set():
            self._forced.set()
            return
        self._stopping.set()
        self._on_stopping()

    async def _end_children(self) -> bool:
        """The gateway drains first; the control plane then stops the replicas.

        A control plane that is down just now is started once more for that.
        Returns whether it could do its work.
        """
        patience_s = self._settings.drain_timeout_s + _END_MARGIN_S
        for listener in itertools.chain(*self._listeners):
            # Whoever comes now is refused, instead of waiting for nobody.
            listener.close()
        found = [*self._replaced, *(self._children.pop(name, None) for name in self._gateways)]
        gateways = [gateway for gateway in found if gateway is not None]
        if gateways:
            ending = asyncio.gather(*(gateway.end(patience_s) for gateway in gateways))
            forced = asyncio.create_task(self._forced.wait())
            await asyncio.wait((ending, forced), return_when=asyncio.FIRST_COMPLETED)
            forced.cancel()
            if not ending.done():
                for gateway in gateways:
                    with contextlib.suppress(ProcessLookupError):
                        gateway.process.kill()
            await ending
        control = self._children.pop("control", None)
        if control is not None:
            await control.end(patience_s)
            if control.begun and control.process.returncode == 0:
                return True
        if self._settings.keep_replicas:
            return True
        try:
            control = await self._spawn("control")
            await self._boot_child(control)
        except (ModelryError, OSError) as error:
            log.error("replicas may still run: the control plane cannot stop them: %s", error)
            return False
        self._children.pop("control", None)
        await control.end(patience_s)
        return control.process.returncode == 0

    async def _drop_children(self) -> None:
        """End a start that goes no further. Who has begun gets to clear up behind itself."""
        while self._children:
            _, child = self._children.popitem()
            if not child.begun and child.process.returncode is None:
                child.process.kill()
            await child.end(_END_MARGIN_S)

    async def _keep(self, name: str) -> None:
        """Start a part again whenever it ends."""
        pause_s = _FIRST_PAUSE_S
        while True:
            child = self._children.get(name)
            if child is not None:
                started = asyncio.get_running_loop().time()
                code = await child.process.wait()
                if self._children.get(name) is not child:
                    # It was replaced.
                    continue
                log.warning("the %s ended (%s); starting it again", name, _shown(code))
                if asyncio.get_running_loop().time() - started > _LONGEST_PAUSE_S:
                    pause_s = _FIRST_PAUSE_S
                self._children.pop(name, None)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            try:
                if name == "control":
                    await self._boot_control(await self._spawn("control"))
                else:
                    await self._start_gateway(name)
            except (ModelryError, OSError) as error:
                log.warning("the %s did not start: %s", name, error)

    async def _start_gateway(self, name: str) -> None:
        await self._boot_child(await self._spawn(name))

    async def _boot_control(self, child: _Child) -> Started:
        report = await self._boot_child(child)
        started = Started(self._settings.own_url(self._port), self._port, report)
        self._on_control(started)
        return started

    async def _spawn(self, name: str) -> _Child:
        """Start a part's process. It loads, and waits for its boot line."""
        part = "control" if name == "control" else "gateway"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            f"modelry.app.{part}",
            ATTACHED,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment(),
            start_new_session=True,
            pass_fds=[each.fileno() for each in self._listeners_of(name)],
        )
        child = self._children[name] = _Child(name, process)
        return child

    async def _boot_child(self, child: _Child) -> Report:
        """Let it begin, and return its report. Raises where it could not begin."""
        process = child.process
        assert process.stdin is not None
        assert process.stdout is not None
        child.begun = True
        boot = boot_of(self._settings)
        if child.name != "control":
            boot.worker = self._gateways.index(child.name)
            boot.listeners = tuple(each.fileno() for each in self._listeners_of(child.name))
        try:
            process.stdin.write(msgspec.json.encode(boot) + b"\n")
            await process.stdin.drain()
            line = await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT_S)
            report = msgspec.json.decode(line, type=Report)
        except (OSError, TimeoutError, ValueError):
            report = Report(exit_code=1)
        if report.exit_code:
            if self._children.get(child.name) is child:
                del self._children[child.name]
            await child.end(_END_MARGIN_S)
            raise _failure(child.name, report, self._settings.paths)
        return report

    def _listeners_of(self, name: str) -> list[socket.socket]:
        return [] if name == "control" else self._listeners[self._gateways.index(name)]

    def _environment(self) -> dict[str, str]:
        """This environment with the settings as `up` resolved them, and without secrets."""
        environment = {
            name: value for name, value in os.environ.items() if name not in _SECRET_VARIABLES
        }
        if environment.pop("PYTHONDONTWRITEBYTECODE", None):
            # What must not be written beside the sources is kept here instead:
            # compiling every module anew costs each start 2 s.
            environment["PYTHONPYCACHEPREFIX"] = str(self._settings.paths.bytecode)
        chosen = msgspec.structs.replace(self._settings, port=self._port)
        return {**environment, **chosen.environment()}


def _lock(paths: Paths) -> int:
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        who = f" (process {holder})" if holder else ""
        raise SettingsError(
            f"a Modelry already runs on {paths.data}{who}",
            hint="use that one, or choose another data directory with --data-dir",
            param="data_dir",
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _failure(name: str, report: Report, paths: Paths) -> ModelryError:
    if report.exit_code == 2:
        return SettingsError(report.message, hint=report.hint)
    message = report.message or "it ended without a word"
    hint = report.hint or f"{paths.logs / f'{name}.log'} has more"
    return StartFailed(f"the {name} did not start: {message}", hint=hint)


def _shown(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"status {code}"
