"""What could go wrong with a start, looked at before anything is written or started."""

from features.errors import ContractError
from infra.local.supervised import Group
from infra.settings import Settings
from pipelines.doctor import port_is_free
from pipelines.local.places import listeners


def check_nothing_runs(group: Group) -> None:
    """Refuse to start twice.

    Raises:
        ContractError: supervisord, or something that it left behind, is alive.
    """
    if group.running():
        raise ContractError(
            f"the local services of {group.folder} run already; shortlist status shows them, "
            "shortlist down stops them"
        )
    if left := group.processes():
        raise ContractError(
            f"{len(left)} processes of an earlier start are still there, without their supervisor "
            f"(pid {', '.join(str(process.pid) for process in left)}); shortlist down ends them"
        )


def check_ports(settings: Settings) -> None:
    """Look at every port before anything is started.

    Raises:
        ContractError: taken ones, each with the setting that moves it.
    """
    taken = [
        f"port {listener.port} for {listener.what} is taken; move it with {listener.setting}"
        for name, listener in listeners(settings).items()
        if not port_is_free(settings.host if name == "api" else "127.0.0.1", listener.port)
    ]
    if taken:
        raise ContractError("; ".join(taken) + "; or stop what listens there")
