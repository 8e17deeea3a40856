"""Hosts on one machine: namespaces of Linux in which the same path leads to different folders, on request with a network of their own."""

import os
import shutil
import subprocess
import time

from helpers import TINY_MODEL

UNSHARE = ("unshare", *(("--map-root-user",) if os.getuid() else ()), "--mount", "--pid", "--fork", "--kill-child")
"""Processes of a host end with it."""

ENTER = 'mount --bind "$0" "$1" && cd "$1" && shift && exec "$@"'
"""For sh: its arguments are the folder of this host, the path under which it is seen, and a command that begins there."""

RUN = (
    *("train", "output=run", "training.use_cpu=true", "training.bf16=false", "samples.enabled=false", *TINY_MODEL),
    *("training.max_steps=50", "training.eval_steps=10", "training.save_steps=10"),
    *("training.learning_rate=0.03", "training.lr_scheduler_type=constant"),  # the best step is not the last
)


def can_unshare(*kinds):
    """True where namespaces are to be had, of further kinds of `unshare` too."""
    return shutil.which("unshare") is not None and _works(*UNSHARE, *kinds, "true")


def _works(*command):
    return subprocess.run(command, capture_output=True).returncode == 0


def finish(pair, seconds=400):
    """(stdout, stderr) of each process, when it has ended."""
    return [process.communicate(timeout=seconds) for process in pair]


def list_left(host):
    """What lies on the disk of a host, its cache of prepared text aside."""
    return sorted(path.name for path in host.iterdir() if path.name != "cache")


def wait_for(file, pair, seconds=300):
    """Return once there is a file that the processes write."""
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, finish(pair)
        assert all(process.poll() is None for process in pair), finish(pair)
        time.sleep(0.05)


class Network:
    """A cable between hosts A and B, each in a network namespace that lasts as long as this; by root alone."""

    def __init__(self, folder):
        self.table = folder / "hosts"
        self.table.write_text("127.0.0.1 localhost\n10.77.0.1 hostA\n10.77.0.2 hostB\n10.77.0.3 host0\n")
        self.keepers = {}
        try:
            for host in "AB":
                self.keepers[host] = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
                                                      stdout=subprocess.PIPE)  # fmt: skip
                self.keepers[host].stdout.readline()  # by now the namespace is there
            a, b = (self.keepers[host].pid for host in "AB")
            run("ip", "link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b)
            for number, host in enumerate("AB", start=1):
                run(*self.enter(host), "ip", "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
                if (
                    host == "B"
                ):  # torchrun orders hosts by the name that their address leads to: host0 needs one of its own
                    run(*self.enter(host), "ip", "addr", "add", "10.77.0.3/24", "dev", "cable")
                for device in ("lo", "cable"):
                    run(*self.enter(host), "ip", "link", "set", device, "up")
        except BaseException:
            self.close()
            raise

    def enter(self, host):
        """The beginning of a command in the network of a host."""
        return "nsenter", f"--net=/proc/{self.keepers[host].pid}/ns/net"

    def on(self, host, own, at, command, name=None):
        """The command line of a command on a host, whose folder `own` is seen as `at`. name: host0, another one for B."""
        begin = f"hostname {name or f'host{host}'} && mount --bind {self.table} /etc/hosts && "
        return [*self.enter(host), *UNSHARE, "--uts", "sh", "-c", begin + ENTER, own, at, *command]

    def close(self):
        for keeper in self.keepers.values():
            keeper.kill()
            keeper.communicate()


def run(*command):
    """Run a command that is expected to work."""
    subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)


def find_obstacle():
    """Why a network cannot be had here, None where it can."""
    if os.getuid():
        return "two hosts with networks of their own take root"
    if absent := [name for name in ("unshare", "nsenter", "ip", "hostname") if shutil.which(name) is None]:
        return f"two hosts with networks of their own take {', '.join(absent)}"
    if not can_unshare("--net", "--uts"):
        return "network namespaces are not to be had here"
    return None
