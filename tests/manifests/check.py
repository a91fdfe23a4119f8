"""Checks what `kubectl kustomize` rendered, one file per overlay, and what Helm made of the chart, for more than its schema.

It checks custom resources against their models (a schema check ignores kinds that it does not know), and what no schema
says: times fit together, edits arrive, nothing runs with more rights than it needs.

    check.py DIRECTORY OVERLAY.yaml…      writes DIRECTORY/rules.yaml for promtool
"""

import json
import re
import sys
from pathlib import Path

import jsonschema
import yaml
from cloudcoil.models.prometheus_operator import v1 as prometheus

OWN = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "SecurityGroupPolicy"}
BALANCER = "service.beta.kubernetes.io/aws-load-balancer-"
# src/transport/socket.rs: the first keepalive probe of an idle connection.
KEEPALIVE_SECONDS = 60


def seconds(text):
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[dhms])", text))


def custom_resource(thing, schema):
    match thing["kind"]:
        case "PodMonitor":
            prometheus.PodMonitor.model_validate(thing)
        case "ServiceMonitor":
            prometheus.ServiceMonitor.model_validate(thing)
        case "PrometheusRule":
            prometheus.PrometheusRule.model_validate(thing)
        case "SecurityGroupPolicy":
            jsonschema.validate(thing, schema)


def is_one(things, kind):
    found = [thing for thing in things if thing["kind"] == kind]
    assert len(found) == 1, f"{len(found)} of {kind}"
    return found[0]


def store(things):
    """The store of shared budgets, where it is: nothing but egressd reaches it, and it forgets nothing. Returns all other things."""
    own = [thing for thing in things if thing["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "valkey"]
    if not own:
        return things
    pods = is_one(own, "StatefulSet")["spec"]["template"]
    labels, container = pods["metadata"]["labels"], pods["spec"]["containers"][0]
    assert container["args"][container["args"].index("--maxmemory-policy") + 1] == "noeviction"
    assert container["securityContext"]["readOnlyRootFilesystem"] and pods["spec"]["securityContext"]["runAsNonRoot"]
    assert is_one(own, "Service")["spec"]["selector"].items() <= labels.items()
    policy = is_one(own, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = policy["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "egressd"}}}]
    # Where the policy of egressd keeps it from private addresses, the store is an exception.
    for other in (thing for thing in things if thing["kind"] == "NetworkPolicy" and thing not in own and not is_for_clients(thing)):
        reaches = [rule["to"] for rule in to_ports(other, {6379})]
        assert reaches == [[{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "valkey"}}}]], reaches
    return [thing for thing in things if thing not in own]


def egressd(things):
    """One overlay that runs egressd."""
    things = store(things)
    pods = is_one(things, "Deployment")["spec"]["template"]
    labels, spec = pods["metadata"]["labels"], pods["spec"]
    deployment = is_one(things, "Deployment")["spec"]
    container = spec["containers"][0]

    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    scaled = any(thing["kind"] == "HorizontalPodAutoscaler" for thing in things)
    replicas = deployment.get("replicas", 2)
    assert replicas >= 2, "one replica"
    assert scaled != ("replicas" in deployment), "both an autoscaler and the Deployment count replicas"
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0

    rights = container["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 65532
    assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
    assert container["resources"]["requests"] == container["resources"]["limits"], "Fargate wants them equal"

    # Edits arrive: the ConfigMap's name has no hash, and it is mounted as a directory.
    config = is_one([thing for thing in things if not is_dashboard(thing)], "ConfigMap")
    assert config["metadata"]["name"] == "egressd", config["metadata"]["name"]
    files = set(config["data"]) | mounted_secrets(spec)
    assert spec["volumes"][0]["name"] == "config"
    assert container["volumeMounts"][0] == {"name": "config", "mountPath": "/etc/egressd", "readOnly": True}
    assert all(mount["readOnly"] and "subPath" not in mount for mount in container["volumeMounts"])

    # Kubernetes must wait for longer than egressd takes to drain.
    settings = yaml.safe_load(config["data"]["egressd.yaml"])
    shutdown = settings["shutdown"]
    draining = seconds(shutdown["delay"]) + seconds(shutdown["grace_period"])
    assert spec["terminationGracePeriodSeconds"] > draining
    missing = set(named_files(settings)) - files
    assert not missing, f"files that the pod does not have beside egressd.yaml: {missing}"

    balanced = [thing for thing in things if thing["kind"] == "Service" and thing["spec"].get("clusterIP") != "None"]
    for service in balanced:
        assert service["spec"]["selector"].items() <= labels.items(), "the Service matches no pod"
        assert service["spec"]["selector"].get("app.kubernetes.io/name") == "egressd", "the Service matches other pods, too"
        if service["spec"]["type"] == "LoadBalancer":
            network_load_balancer(service, container, settings, draining)
    for kind in ("PodDisruptionBudget", "PodMonitor", "SecurityGroupPolicy", "NetworkPolicy"):
        for thing in (thing for thing in things if thing["kind"] == kind and not is_for_clients(thing)):
            selector = thing["spec"].get("selector") or thing["spec"].get("podSelector")
            assert selector["matchLabels"].items() <= labels.items(), f"{kind} matches no pod"
    ports = {port["name"] for port in container["ports"]}
    for monitor in (thing for thing in things if thing["kind"] == "PodMonitor"):
        assert all(endpoint["port"] in ports for endpoint in monitor["spec"]["podMetricsEndpoints"])
    budget = is_one(things, "PodDisruptionBudget")["spec"]
    assert 1 <= budget["maxUnavailable"] < replicas
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow", "pods that serve nobody would keep nodes from being drained"
    for policy in (thing for thing in things if thing["kind"] == "NetworkPolicy"):
        reaches_dns(policy)
        if is_for_clients(policy):
            namespace = is_one(things, "Deployment")["metadata"]["namespace"]
            only_dns_and_egressd(policy, namespace, labels, {port["containerPort"] for port in container["ports"] if port["name"] != "admin"})


def is_for_clients(thing):
    """A policy of the clients' namespace, and not egressd's own."""
    return thing["kind"] == "NetworkPolicy" and thing["spec"]["policyTypes"] == ["Egress"]


def to_ports(policy, ports):
    return [rule for rule in policy["spec"]["egress"] if {port["port"] for port in rule.get("ports", [])} == ports]


def reaches_dns(policy):
    to = [peer for rule in to_ports(policy, {53}) for peer in rule["to"]]
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in to, "where NodeLocal DNSCache answers, there would be no DNS"


def only_dns_and_egressd(policy, namespace, labels, ports):
    """Of the first two rules; more of them are the user's own."""
    dns, proxy = policy["spec"]["egress"][:2]
    assert [dns] == to_ports(policy, {53}) and [proxy] == to_ports(policy, ports), f"{ports} are the proxy's"
    pods, *networks = proxy["to"]
    assert pods["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}
    assert pods["podSelector"]["matchLabels"] and pods["podSelector"]["matchLabels"].items() <= labels.items()
    for peer in dns["to"]:
        assert "ipBlock" in peer or peer["podSelector"]["matchLabels"], "every pod of the cluster's own namespace could be reached"
    for peer in [*(peer for peer in dns["to"] if "ipBlock" in peer), *networks]:
        assert list(peer) == ["ipBlock"] and int(peer["ipBlock"]["cidr"].rsplit("/", 1)[1]) >= 8


def mounted_secrets(spec):
    """The files of Secrets that lie beside egressd.yaml. Nobody but egressd may read them."""
    volume = spec["volumes"][0]
    if "projected" not in volume:
        assert volume == {"name": "config", "configMap": {"name": "egressd"}}
        return set()
    configs, *secrets = volume["projected"]["sources"]
    assert configs == {"configMap": {"name": "egressd"}}
    assert volume["projected"]["defaultMode"] == 0o440 and spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
    return {item["path"] for source in secrets for item in source["secret"]["items"]}


def is_dashboard(thing):
    """Grafana's sidecar finds it by this label. It is JSON, and its queries are run by tests/e2e."""
    if thing["metadata"].get("labels", {}).get("grafana_dashboard") != "1":
        return False
    assert thing["kind"] == "ConfigMap" and json.loads(thing["data"]["egressd.json"])["title"] == "egressd"
    return True


def network_load_balancer(service, container, settings, draining):
    annotations = service["metadata"]["annotations"]
    ours = {key.removeprefix(BALANCER): value for key, value in annotations.items() if key.startswith(BALANCER)}
    for key, value in ours.items():
        assert isinstance(value, str) and not re.search(r"\s", value), f"{key}: {value!r}"
    assert ours["type"] == "external" and ours["nlb-target-type"] == "ip", "Fargate pods are reached by no other kind"
    group = dict(pair.split("=") for pair in ours["target-group-attributes"].split(","))
    assert group["preserve_client_ip.enabled"] == "true", "every client would have the balancer's address"
    for wait in ("deregistration_delay.timeout_seconds", "target_health_state.unhealthy.draining_interval_seconds"):
        assert int(group[wait]) >= draining, f"{wait}: the target group forgets the pod while it drains"
    assert group["target_health_state.unhealthy.connection_termination.enabled"] == "false"
    assert "deletion_protection.enabled=true" in ours["attributes"]
    for port, listener in zip(service["spec"]["ports"], settings["listeners"], strict=True):
        assert port["port"] == port["targetPort"], "a number: a named port is an error for ip targets"
        assert listener["address"].endswith(f":{port['port']}")

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    if "healthcheck-protocol" in ours:
        assert ours["healthcheck-protocol"] == "http" and ours["healthcheck-path"] == "/healthz"
        assert int(ours["healthcheck-port"]) == ports["admin"], "a number: a named port is an error for ip targets"
        assert settings["admin"]["address"].endswith(f":{ports['admin']}")
    # The Service that replaces Squid's keeps the settings that nobody asked to change.
    if service["metadata"]["name"] == "egressd":
        assert ours["scheme"] == "internal" and "healthcheck-protocol" in ours
        assert "load_balancing.cross_zone.enabled=true" in ours["attributes"]
        for port in service["spec"]["ports"]:
            idle = re.fullmatch(r"tcp\.idle_timeout\.seconds=(\d+)", ours[f"listener-attributes.TCP-{port['port']}"])
            assert 60 <= int(idle[1]) <= 6000 and int(idle[1]) > KEEPALIVE_SECONDS
        assert service["spec"]["loadBalancerSourceRanges"] == settings["policies"][0]["clients"]["networks"]
    if "proxy-protocol" in ours:
        assert settings["listeners"][0]["proxy_protocol"] == settings["admin"]["proxy_protocol"]
    else:
        assert "proxy_protocol" not in settings["listeners"][0]


def eks_fargate(things, profile):
    """The pods run on Fargate, and count as ready only once the balancer sends requests to them."""
    deployment = is_one(things, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [selector for one in profile["fargateProfiles"] for selector in one["selectors"]]
    assert any(
        selector["namespace"] == deployment["metadata"]["namespace"] and selector["labels"].items() <= labels.items()
        for selector in selectors
    ), "no Fargate profile fits the pods: they stay Pending"
    namespace = is_one(things, "Namespace")["metadata"]
    assert namespace["name"] == deployment["metadata"]["namespace"]
    assert namespace["labels"]["elbv2.k8s.aws/pod-readiness-gate-inject"] == "enabled"
    is_one(things, "SecurityGroupPolicy")
    zones = [spread["topologyKey"] for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]]
    assert "topology.kubernetes.io/zone" in zones
    resources = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "250m", "memory": "256Mi"}, "256Mi and Fargate's own 256 MB are the smallest size"


def log_router(things):
    """What Fargate's Fluent Bit accepts: these names, sections and plug-ins, at most so many characters. log_router.py runs it."""
    namespace, config = is_one(things, "Namespace"), is_one(things, "ConfigMap")
    assert namespace["metadata"]["name"] == config["metadata"]["namespace"] == "aws-observability"
    assert namespace["metadata"]["labels"]["aws-observability"] == "enabled"
    assert config["metadata"]["name"] == "aws-logging"
    sections = {"filters.conf": "FILTER", "parsers.conf": "PARSER", "output.conf": "OUTPUT"}
    required = {"FILTER": {"name", "match"}, "PARSER": {"name", "format"}, "OUTPUT": {"name", "match"}}
    plugins = {
        "FILTER": {"grep", "parser", "record_modifier", "rewrite_tag", "throttle", "nest", "modify", "kubernetes"},
        "OUTPUT": {"es", "firehose", "kinesis_firehose", "cloudwatch", "cloudwatch_logs", "kinesis"},
    }
    assert config["data"].keys() <= sections.keys() and "output.conf" in config["data"]
    group = re.search(r"log_group_name (\S+)", config["data"]["output.conf"])[1]
    policy = json.loads(Path("k8s/overlays/eks-fargate/cluster/logs-policy.json").read_text())
    assert all(statement["Resource"].endswith(f":log-group:{group}*") for statement in policy["Statement"])
    assert sum(map(len, config["data"].values())) <= 5300
    for name, text in config["data"].items():
        assert set(re.findall(r"^\s*\[(\w+)\]", text, re.MULTILINE)) == {sections[name]}, name
        assert "${" not in text, f"{name}: Fargate takes no variables"
        # Directives are indented alike, pairs alike, and these more.
        indents = {len(line) - len(line.lstrip()): line.lstrip().startswith("[") for line in text.splitlines() if line.strip()}
        assert len(indents) == 2 and indents[min(indents)] and not indents[max(indents)], f"{name}: {indents}"
        for body in re.split(r"^\s*\[\w+\]\s*$", text, flags=re.MULTILINE)[1:]:
            pairs = dict(line.lower().split(None, 1) for line in body.splitlines() if line.strip())
            assert required[sections[name]] <= pairs.keys(), f"{name}: {pairs}"
            assert pairs["name"] in plugins.get(sections[name], {pairs["name"]}), f"{name}: Fargate has no plug-in {pairs['name']}"


def named_files(settings):
    for policy in settings["policies"]:
        for entry in policy.get("allow_files", []):
            yield entry if isinstance(entry, str) else entry["file"]
    for listener in settings["listeners"]:
        yield from listener.get("tls", {}).values()
        yield from listener.get("basic_auth", {}).values()
    yield from (settings.get("inspection", {}).get(file) for file in ("certificate", "key") if "inspection" in settings)


def main(directory, *rendered):
    schema = json.loads(Path(__file__).with_name("securitygrouppolicy.schema.json").read_text())
    profile = yaml.safe_load(Path("k8s/overlays/eks-fargate/cluster/fargate-profile.yaml").read_text())
    own, rules, routers, fargate, clients = 0, None, 0, 0, 0
    for path in rendered:
        things = [thing for thing in yaml.safe_load_all(Path(path).read_text()) if thing]
        try:
            for thing in things:
                custom_resource(thing, schema)
                own += thing["kind"] in OWN
                if thing["kind"] == "PrometheusRule":
                    rules = thing["spec"]
            # What `helm test` makes, it also removes. A policy that stood alone would shut out all clients while the test runs.
            hooks = [thing for thing in things if "helm.sh/hook" in thing["metadata"].get("annotations", {})]
            policies = [thing for thing in things if thing["kind"] == "NetworkPolicy" and thing not in hooks and not is_for_clients(thing)]
            assert policies or not any(thing["kind"] == "NetworkPolicy" for thing in hooks), "the policy of the test would be the only one"
            things = [thing for thing in things if thing not in hooks]
            by_helm = any(thing["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "Helm" for thing in things)
            router = [thing for thing in things if "aws-observability" in (thing["metadata"]["name"], thing["metadata"].get("namespace"))]
            things = [thing for thing in things if thing not in router]
            if any(thing["kind"] == "Deployment" for thing in things):
                egressd(things)
            elif len(things) == 1 and is_for_clients(things[0]):
                reaches_dns(things[0])
                only_dns_and_egressd(things[0], "egressd", {"app.kubernetes.io/name": "egressd"}, {3128})
            clients += any(map(is_for_clients, things))
            # Helm makes no Namespace; chart.py finds all else to be as here.
            if any(thing["kind"] == "SecurityGroupPolicy" for thing in things) and not by_helm:
                eks_fargate(things, profile)
                fargate += 1
            if router:
                log_router(router)
                routers += 1
        except Exception:
            print(f"in {path}:", file=sys.stderr)
            raise
        print(f"{path}: {len(things)} objects")
    assert own >= 3 and fargate and routers and clients, "what is to be checked was not there"
    Path(directory, "rules.yaml").write_text(yaml.safe_dump(rules))


if __name__ == "__main__":
    main(*sys.argv[1:])
