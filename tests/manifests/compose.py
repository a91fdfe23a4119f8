"""Checks docker/compose.yaml, as podman-compose understands it: which service can reach which.

    compose.py DIRECTORY COMPOSE.yaml      DIRECTORY is where the file's relative paths begin
"""

import sys
from pathlib import Path

import yaml


def main(directory, rendered):
    compose = yaml.safe_load(Path(rendered).read_text())
    services, networks = compose["services"], compose["networks"]
    assert set(services) == {"egressd", "prometheus", "client"}

    # The client's only network has no route out, and egressd is the only service in it that has another network and forwards.
    assert list(services["client"]["networks"]) == ["inside"] and networks["inside"]["internal"] is True
    assert set(services["egressd"]["networks"]) == {"inside", "outside"}
    assert "ports" not in services["client"] and "network_mode" not in services["client"]
    for name in ("http_proxy", "https_proxy"):
        assert services["client"]["environment"][name] == "http://egressd:3128"

    egressd = services["egressd"]
    assert egressd["read_only"] and egressd["cap_drop"] == ["ALL"]
    assert egressd["security_opt"] == ["no-new-privileges:true"]
    for service in services.values():
        # No port is reachable from other machines.
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
        for volume in service.get("volumes", []):
            source, _, mode = str(volume).split(":")
            assert mode == "ro" and Path(directory, source).is_dir(), f"{volume}: a directory, so that edits arrive"


if __name__ == "__main__":
    main(*sys.argv[1:])
