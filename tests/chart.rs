//! What can be said of the Helm chart without Helm: its values, its schema and its templates fit together, and fit the kustomizations.
//!
//! This is the second method. `tests/long/manifests` is the first: there, Helm itself renders the chart, and the objects are compared with
//! those of kubectl.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const CHART: &str = "k8s/chart";

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn schema() -> Value {
    serde_json::from_str(&read("k8s/chart/values.schema.json")).expect("JSON")
}

/// The templates, by their path.
fn templates() -> BTreeMap<String, String> {
    let (mut folders, mut found) = (vec![format!("{CHART}/templates")], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("in the repository") {
            let path = entry.expect("readable").path();
            let shown = path.display().to_string();
            if path.is_dir() {
                folders.push(shown);
            } else {
                found.insert(shown.clone(), read(&shown));
            }
        }
    }
    assert!(found.len() >= 15, "{} templates", found.len());
    found
}

/// With UPDATE_EXPECTED=1 it is written instead. So a key that egressd does not know is an error of Helm's, before anything is installed.
#[test]
fn the_schema_of_the_values_has_all_keys_of_the_configuration() {
    let printed = Command::new(env!("CARGO_BIN_EXE_egressd")).args(["config", "schema"]).output();
    let printed = printed.expect("it runs").stdout;
    let mut of_config: serde_json::Map<String, Value> = serde_json::from_slice(&printed).expect("JSON");
    let mut whole = schema();
    whole["$defs"] = of_config.remove("$defs").expect("definitions");
    of_config.retain(|key, _| !["$schema", "title"].contains(&key.as_str()));
    whole["properties"]["config"] = Value::Object(of_config);
    let due = serde_json::to_string_pretty(&whole).expect("JSON") + "\n";
    let file = "k8s/chart/values.schema.json";
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(file, &due).expect("written");
    }
    assert!(read(file) == due, "{file} is out of date: UPDATE_EXPECTED=1 cargo test --test chart");
}

/// Walks the values and what the schema says of them; `config` has a schema of its own.
fn hold_together(values: &Value, of_schema: &Value, place: &str, seen: &mut usize) {
    let (Some(values), Some(known)) = (values.as_object(), of_schema["properties"].as_object()) else {
        return;
    };
    *seen += 1;
    assert_eq!(of_schema["additionalProperties"], Value::Bool(false), "{place}: an unknown key would pass");
    // A parent chart's values for all its charts: not a value of this one.
    let keys = |map: &serde_json::Map<String, Value>| -> BTreeSet<String> {
        map.keys().filter(|key| *key != "global").cloned().collect()
    };
    assert_eq!(keys(values), keys(known), "{place}: values.yaml and its schema");
    // With `null`, Helm takes a key of the defaults away, and a template would go on without it.
    let required = of_schema["required"].as_array().cloned().unwrap_or_default();
    let required: BTreeSet<String> = required.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    assert_eq!(required, keys(known), "{place}: every key is required");
    for (key, value) in values.iter().filter(|(key, _)| !(place.is_empty() && *key == "config")) {
        hold_together(value, &known[key], &format!("{place}/{key}"), seen);
    }
}

#[test]
fn the_schema_knows_the_values_of_the_chart_and_no_others() {
    let mut seen = 0;
    hold_together(&yaml("k8s/chart/values.yaml"), &schema(), "", &mut seen);
    assert!(seen >= 20, "{seen} maps");
}

/// The paths `.Values.a.b` in the templates.
fn used() -> BTreeSet<String> {
    let all: String = templates().into_values().collect();
    let paths = all.split(".Values.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(rest.len());
        rest[..end].trim_end_matches('.').to_owned()
    });
    paths.collect()
}

/// Every value that is no map, and every map that a template takes whole.
fn leaves(values: &Value, place: &str, whole: &BTreeSet<String>, found: &mut Vec<String>) {
    match values.as_object() {
        Some(map) if !map.is_empty() && !whole.contains(place) => {
            for (key, value) in map {
                let below = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                leaves(value, &below, whole, found);
            }
        }
        _ => found.push(place.to_owned()),
    }
}

#[test]
fn every_value_is_used_and_every_use_is_a_value() {
    let (values, used) = (yaml("k8s/chart/values.yaml"), used());
    for path in &used {
        let mut at = &values;
        for key in path.split('.') {
            // Below `config` is what a user writes.
            if path.starts_with("config.") {
                continue;
            }
            at = at.get(key).unwrap_or_else(|| panic!(".Values.{path} is in a template, not in values.yaml"));
        }
    }
    let mut found = Vec::new();
    leaves(&values, "", &used, &mut found);
    assert!(found.len() > 40, "{found:?}");
    let unused: Vec<&String> = found.iter().filter(|leaf| !used.contains(*leaf)).collect();
    assert!(unused.is_empty(), "no template uses {unused:?}");
}

/// Helm would tell of the first one that is not closed, and render nothing.
#[test]
fn every_block_of_a_template_is_closed_and_every_definition_is_there() {
    let (mut defined, mut included) = (BTreeSet::new(), BTreeSet::new());
    for (file, text) in templates() {
        assert_eq!(text.matches("{{").count(), text.matches("}}").count(), "{file}: braces");
        let mut open = Vec::new();
        for action in text.split("{{").skip(1) {
            let action = action.split("}}").next().unwrap_or_default();
            let mut words = action
                .trim_matches('-')
                .split(|c: char| c.is_whitespace() || c == '(')
                .filter(|w| !w.is_empty());
            match words.next() {
                Some("if" | "range" | "with") => open.push(action),
                Some("define") => {
                    open.push(action);
                    defined.insert(words.next().expect("a name").trim_matches('"').to_owned());
                }
                Some("end") => assert!(open.pop().is_some(), "{file}: an end too many"),
                _ => {}
            }
            let names = action.split("include \"").skip(1).filter_map(|rest| rest.split('"').next());
            included.extend(names.map(str::to_owned));
        }
        assert!(open.is_empty(), "{file}: {open:?} has no end");
    }
    assert!(included.len() >= 10, "{included:?}");
    assert_eq!(included, defined, "every definition is included, and every one that is included is there");
}

/// What both have is in one file, to which the chart has a link; `helm package` and `docker/chart` put the file in its place.
#[test]
fn the_chart_has_links_to_the_files_of_the_kustomizations_and_no_copies() {
    for (link, file) in [
        ("dashboard.json", "k8s/components/monitoring/dashboard.json"),
        ("prometheusrule.yaml", "k8s/components/monitoring/prometheusrule.yaml"),
        ("aws-logging.yaml", "k8s/overlays/eks-fargate/cluster/aws-logging.yaml"),
    ] {
        let path = Path::new(CHART).join("files").join(link);
        assert!(path.is_symlink(), "{} is a copy", path.display());
        let same = |path: &Path| std::fs::canonicalize(path).expect("it leads to a file");
        assert_eq!(same(&path), same(Path::new(file)));
    }
    let all = std::fs::read_dir(Path::new(CHART).join("files")).expect("in the repository");
    for entry in all.map(|entry| entry.expect("readable")) {
        let name = entry.file_name().into_string().expect("ASCII");
        let text: String = templates().into_values().collect();
        assert!(text.contains(&format!("files/{name}")), "no template reads {name}");
    }
}

/// Where nobody sets a value, the chart and the kustomizations say the same.
#[test]
fn the_defaults_are_those_of_the_kustomizations() {
    let values = yaml("k8s/chart/values.yaml");
    assert_eq!(values["config"], yaml("k8s/base/egressd.yaml"));
    assert_eq!(values["files"]["allowlist.txt"], read("k8s/base/allowlist.txt"));
    let deployment = yaml("k8s/base/deployment.yaml");
    assert_eq!(values["replicas"], deployment["spec"]["replicas"]);
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(values["resources"], container["resources"]["limits"]);
    assert_eq!(values["image"]["repository"], container["image"]);
    assert_eq!(values["image"]["pullPolicy"], container["imagePullPolicy"]);
    let scaler = yaml("k8s/components/hpa/horizontalpodautoscaler.yaml");
    assert_eq!(values["autoscaling"]["minReplicas"], scaler["spec"]["minReplicas"]);
    assert_eq!(values["autoscaling"]["maxReplicas"], scaler["spec"]["maxReplicas"]);
    let monitor = yaml("k8s/components/monitoring/podmonitor.yaml");
    assert_eq!(
        values["monitoring"]["podMonitor"]["interval"],
        monitor["spec"]["podMetricsEndpoints"][0]["interval"]
    );
    // The address in the file is what the value replaces.
    let place = values["monitoring"]["prometheusRule"]["repository"].as_str().expect("a text").to_owned();
    let rules = read("k8s/components/monitoring/prometheusrule.yaml");
    assert!(rules.matches(&format!("runbook_url: {place}docs/runbook.md#")).count() >= 19);
    assert!(read("k8s/chart/templates/prometheusrule.yaml").contains(&format!("replace \"{place}\"")));
}

/// The annotations that a load balancer needs, each of which was found out the hard way.
#[test]
fn every_annotation_of_the_load_balancer_is_in_the_chart() {
    let helpers = read("k8s/chart/templates/_helpers.tpl");
    let service = yaml("k8s/overlays/eks-fargate/service.yaml");
    let annotations = service["metadata"]["annotations"].as_object().expect("annotations");
    assert!(annotations.len() >= 12);
    for key in annotations.keys() {
        let end = key.strip_prefix("service.beta.kubernetes.io/aws-load-balancer").expect("the controller's");
        // The port at the end is a listener's.
        let end = end.split(".TCP-").next().unwrap_or(end);
        assert!(helpers.contains(&format!("{{{{ $prefix }}}}{end}")), "{key}");
    }
}
