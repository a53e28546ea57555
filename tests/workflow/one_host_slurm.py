"""A real Slurm on this one machine, for a test: munged, slurmctld and slurmd with a configuration of their own.

It needs root and the daemons (Debian: `slurmctld slurmd slurm-client munge`); neither systemd nor cgroups. Without
cgroups nobody stops a job at its memory limit, so Slurm itself looks once a second and ends what exceeds it
(`OverMemoryKill`). Accounting is off: states come from `squeue`, which keeps finished jobs for a day.

By hand: `python3 tests/workflow/one_host_slurm.py FOLDER start|stop`
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

CONF = Path("/etc/slurm/slurm.conf")
"""Where Slurm looks first. `srun` inside a job finds no other: the executor plugin takes SLURM_CONF out of its way."""
CLUSTER = "abionehost"
DAEMONS = ("munged", "slurmctld", "slurmd")
NEEDED = (*DAEMONS, "sbatch", "srun", "squeue", "scancel", "scontrol")
OVER = ("COMPLETED", "CANCELLED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
CONFIGURATION = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=1,defer
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MinJobAge=86400
KillWait=2
ReturnToService=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str | None:
    """Return why no Slurm can be started here, in words; None if one can."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"Slurm is not installed ({missing[0]} is missing): apt-get install slurmctld slurmd slurm-client munge"
    if os.geteuid() != 0:
        return "slurmd starts as root only"
    if CONF.exists():
        text = CONF.read_text(encoding="utf-8")
        if f"ClusterName={CLUSTER}\n" not in text:
            return f"{CONF} belongs to another Slurm"
        alive = re.search(r"(?m)^SlurmctldPidFile=(.*)$", text)
        if alive and Path(alive[1]).exists() and Path("/proc", Path(alive[1]).read_text().strip()).exists():
            return f"such a Slurm runs already ({alive[1]})"
    return None


def called(*command: str) -> str:
    """Return what a command prints. Raises: CalledProcessError: it failed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True)
class Job:
    """What Slurm says of a job; `memory` is what it asked for."""

    number: str
    state: str
    reason: str
    memory: str
    restarts: int
    rule: str


@dataclass(frozen=True)
class OneHost:
    """A Slurm of one node, with its state and logs in a folder."""

    root: Path

    @property
    def node(self) -> str:
        """The name of its only node."""
        return socket.gethostname().partition(".")[0]

    def start(self) -> None:
        """Start the three daemons and wait for the node. Raises: TimeoutError: it does not come up."""
        for name in ("state", "spool", "munge"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        key = self.root / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        with open("/proc/meminfo", encoding="ascii") as lines:
            total = int(next(line for line in lines if line.startswith("MemTotal")).split()[1])
        CONF.parent.mkdir(exist_ok=True)
        CONF.write_text(
            CONFIGURATION.format(
                cluster=CLUSTER,
                host=self.node,
                ports=free_ports(2),
                root=self.root,
                cpus=os.cpu_count(),
                memory=total * 9 // 10 // 1024,
            ),
            encoding="utf-8",
        )
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        called("munged", "--force", *(f"--{option}={self.root}/munge/{name}" for option, name in files.items()))
        called("slurmctld")
        called("slurmd")
        self.wait("idle")

    def stop(self) -> None:
        """End the daemons and take the configuration away."""
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            path = self.root / name
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)
        CONF.unlink(missing_ok=True)

    def state(self) -> str:
        """Return the state of the node; nothing where slurmctld does not answer."""
        asked = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False)
        return asked.stdout.strip()

    def wait(self, state: str, seconds: float = 60) -> None:
        """Wait until the node is in a state. Raises: TimeoutError: it does not get there."""
        end = time.monotonic() + seconds
        while (found := self.state()) != state:
            if time.monotonic() > end:
                raise TimeoutError(f"the node is {found or 'not there'}, not {state}; see {self.root}/slurmctld.log")
            time.sleep(0.2)

    def fail(self, reason: str) -> None:
        """Take the node down, as if it had failed: what runs there is lost."""
        called("scontrol", "update", f"NodeName={self.node}", "State=DOWN", f"Reason={reason}")

    def resume(self) -> None:
        """Bring the node back."""
        called("scontrol", "update", f"NodeName={self.node}", "State=RESUME")

    def jobs(self) -> list[Job]:
        """Return all jobs since the start, first to last; the executor plugin writes the rule into the comment."""
        lines = called("scontrol", "--oneliner", "show", "job").splitlines()
        shown = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
        found = [
            Job(
                number=one["JobId"],
                state=one["JobState"],
                reason=one["Reason"],
                memory=one["MinMemoryNode"],
                restarts=int(one["Restarts"]),
                rule=one.get("Comment", "").removeprefix("rule_").partition("_wildcards_")[0],
            )
            for one in shown
            if "JobId" in one
        ]
        return sorted(found, key=lambda job: int(job.number))

    def table(self, since: str = "0") -> str:
        """Return the jobs after one as lines to print."""
        rows = [job for job in self.jobs() if int(job.number) > int(since)]
        return "\n".join(
            f"{job.number:>5} {job.rule:<18} {job.state:<14} {job.reason:<14} {job.memory:>6} restarts {job.restarts}"
            for job in rows
        )


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        with closing(one):
            pass
    return ports


if __name__ == "__main__":
    if sys.argv[2] == "start" and lacking():
        sys.exit(lacking())
    getattr(OneHost(Path(sys.argv[1]).resolve()), sys.argv[2])()
