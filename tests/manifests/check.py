"""What `kubectl kustomize` rendered, one file an overlay, checked beyond its schema.

Custom resources against their models (a schema check passes over kinds that it does not know), and what no schema
says: that times fit together, that edits arrive, that nothing runs with more rights than it needs.

    check.py DIRECTORY OVERLAY.yaml…      writes DIRECTORY/rules.yaml for promtool
"""

import json
import re
import sys
from pathlib import Path

import jsonschema
import yaml
from cloudcoil.models.prometheus_operator import v1 as prometheus

OWN = {"PodMonitor", "PrometheusRule", "SecurityGroupPolicy"}
TARGET_GROUP = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes"


def seconds(text):
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[dhms])", text))


def custom_resource(thing, schema):
    match thing["kind"]:
        case "PodMonitor":
            prometheus.PodMonitor.model_validate(thing)
        case "PrometheusRule":
            prometheus.PrometheusRule.model_validate(thing)
        case "SecurityGroupPolicy":
            jsonschema.validate(thing, schema)


def is_one(things, kind):
    found = [thing for thing in things if thing["kind"] == kind]
    assert len(found) == 1, f"{len(found)} of {kind}"
    return found[0]


def egressd(things):
    """One overlay that runs egressd."""
    pods = is_one(things, "Deployment")["spec"]["template"]
    labels, spec = pods["metadata"]["labels"], pods["spec"]
    deployment = is_one(things, "Deployment")["spec"]
    container = spec["containers"][0]

    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    scaled = any(thing["kind"] == "HorizontalPodAutoscaler" for thing in things)
    assert scaled or deployment["replicas"] >= 2, "one replica"
    assert scaled != ("replicas" in deployment), "both an autoscaler and the Deployment count replicas"
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0

    rights = container["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 65532
    assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
    assert container["resources"]["requests"] == container["resources"]["limits"], "Fargate wants them equal"

    # An edit arrives: the ConfigMap's name has no hash, and it is mounted as a directory.
    config = is_one([thing for thing in things if not is_dashboard(thing)], "ConfigMap")
    assert config["metadata"]["name"] == "egressd", config["metadata"]["name"]
    assert spec["volumes"][0] == {"name": "config", "configMap": {"name": "egressd"}}
    assert container["volumeMounts"][0] == {"name": "config", "mountPath": "/etc/egressd", "readOnly": True}
    assert all(mount["readOnly"] and "subPath" not in mount for mount in container["volumeMounts"])

    # Whoever waits for somebody waits longer than he takes.
    settings = yaml.safe_load(config["data"]["egressd.yaml"])
    shutdown = settings["shutdown"]
    draining = seconds(shutdown["delay"]) + seconds(shutdown["grace_period"])
    assert spec["terminationGracePeriodSeconds"] > draining
    assert all(name in config["data"] for name in named_files(settings)), "a file that the ConfigMap has not"

    for service in (thing for thing in things if thing["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= labels.items(), "the Service fits no pod"
        assert service["spec"]["selector"].get("app.kubernetes.io/name") == "egressd", "the Service fits others too"
        attributes = service["metadata"].get("annotations", {}).get(TARGET_GROUP, "")
        if service["spec"]["type"] == "LoadBalancer":
            waits = re.search(r"deregistration_delay\.timeout_seconds=(\d+)", attributes)
            assert waits and int(waits[1]) >= draining, "the target group forgets the pod while it drains"
            assert " " not in attributes and "\n" not in attributes
            assert "preserve_client_ip.enabled=true" in attributes
    for kind in ("PodDisruptionBudget", "PodMonitor", "SecurityGroupPolicy", "NetworkPolicy"):
        for thing in (thing for thing in things if thing["kind"] == kind):
            selector = thing["spec"].get("selector") or thing["spec"].get("podSelector")
            assert selector["matchLabels"].items() <= labels.items(), f"{kind} fits no pod"
    ports = {port["name"] for port in container["ports"]}
    for monitor in (thing for thing in things if thing["kind"] == "PodMonitor"):
        assert all(endpoint["port"] in ports for endpoint in monitor["spec"]["podMetricsEndpoints"])
    budget = is_one(things, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1


def is_dashboard(thing):
    """Grafana's sidecar finds it by this label. It is JSON, and its queries are run by tests/e2e."""
    if thing["metadata"].get("labels", {}).get("grafana_dashboard") != "1":
        return False
    assert thing["kind"] == "ConfigMap" and json.loads(thing["data"]["egressd.json"])["title"] == "egressd"
    return True


def named_files(settings):
    for policy in settings["policies"]:
        for entry in policy.get("allow_files", []):
            yield entry if isinstance(entry, str) else entry["file"]


def main(directory, *rendered):
    schema = json.loads(Path(__file__).with_name("securitygrouppolicy.schema.json").read_text())
    own, rules = 0, None
    for path in rendered:
        things = [thing for thing in yaml.safe_load_all(Path(path).read_text()) if thing]
        try:
            for thing in things:
                custom_resource(thing, schema)
                own += thing["kind"] in OWN
                if thing["kind"] == "PrometheusRule":
                    rules = thing["spec"]
            if any(thing["kind"] == "Deployment" for thing in things):
                egressd(things)
        except Exception:
            print(f"in {path}:", file=sys.stderr)
            raise
        print(f"{path}: {len(things)} objects")
    assert own >= 3, "the custom resources were not there to be checked"
    Path(directory, "rules.yaml").write_text(yaml.safe_dump(rules))


if __name__ == "__main__":
    main(*sys.argv[1:])
