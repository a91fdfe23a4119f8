//! ConfigMaps as `kubectl get cm -o yaml` prints them: a List, one object, or several documents. Each key is a file.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::Deserialize;

/// An object of any kind.
#[derive(Deserialize, Debug)]
struct Object {
    kind: Option<String>,
    metadata: Option<Metadata>,
    #[serde(default)]
    items: Vec<Object>,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default, rename = "binaryData")]
    binary_data: BTreeMap<String, String>,
}

#[derive(Deserialize, Debug)]
struct Metadata {
    name: Option<String>,
}

/// Every key of every ConfigMap, and which of them is Squid's configuration.
pub(super) fn read(yaml: &str) -> Result<(BTreeMap<String, Vec<u8>>, String), String> {
    let mut budget = serde_saphyr::Options::default();
    budget.strict_booleans = true;
    let objects: Vec<Object> = serde_saphyr::from_multiple_with_options(yaml, budget).map_err(|error| {
        format!("stdin is not YAML as `kubectl get cm -o yaml` prints it: {}", one_line(&error.to_string()))
    })?;
    let mut files = BTreeMap::new();
    let mut from: BTreeMap<String, String> = BTreeMap::new();
    for object in objects.into_iter().flat_map(|object| {
        if object.kind.as_deref().is_some_and(|kind| kind.ends_with("List")) {
            object.items
        } else {
            vec![object]
        }
    }) {
        if object.kind.as_deref() != Some("ConfigMap") {
            continue;
        }
        let name =
            object.metadata.and_then(|metadata| metadata.name).unwrap_or_else(|| "without a name".to_owned());
        let text = object.data.into_iter().map(|(key, text)| Ok((key, text.into_bytes())));
        let binary = object.binary_data.into_iter().map(|(key, text)| {
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(text.split_whitespace().collect::<String>());
            bytes
                .map(|bytes| (key.clone(), bytes))
                .map_err(|_| format!("binaryData `{key}` of the ConfigMap `{name}` is not base64"))
        });
        for entry in text.chain(binary) {
            let (key, content) = entry?;
            if let Some(other) = from.insert(key.clone(), name.clone()) {
                return Err(format!(
                    "the ConfigMaps `{other}` and `{name}` both have a key `{key}`: name the ones that Squid mounts, as in `kubectl get cm squid-conf squid-whitelist -o yaml`"
                ));
            }
            files.insert(key, content);
        }
    }
    if files.is_empty() {
        return Err(
            "stdin holds no ConfigMap with data: pipe `kubectl get cm NAME… -o yaml` into this".to_owned()
        );
    }
    let conf: Vec<&String> = files.keys().filter(|key| key.ends_with(".conf")).collect();
    let main = match (files.contains_key("squid.conf"), conf.as_slice()) {
        (true, _) => "squid.conf".to_owned(),
        (false, [only]) => (*only).clone(),
        _ => {
            let keys: Vec<&str> = files.keys().map(String::as_str).collect();
            return Err(format!("no key is called squid.conf; there are {}", keys.join(", ")));
        }
    };
    Ok((files, main))
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: squid-conf, uid: 1}\ndata:\n  squid.conf: |\n    http_port 3128\n";
    const LIST: &str = "kind: ConfigMap\nmetadata: {name: list}\ndata:\n  whitelist: |\n    .amazonaws.com\nbinaryData: {other: LmV4YW1wbGUuY29tCg==}\n";

    #[test]
    fn documents_and_lists_of_config_maps_are_files() {
        let items = |text: &str| {
            text.lines().map(|line| format!("  {line}\n")).collect::<String>().replacen("  ", "- ", 1)
        };
        let list = format!("apiVersion: v1\nkind: List\nitems:\n{}{}", items(MAP), items(LIST));
        for yaml in [format!("{MAP}---\n{LIST}"), list] {
            let (files, main) = read(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
            assert_eq!(main, "squid.conf");
            assert_eq!(files["squid.conf"], b"http_port 3128\n");
            assert_eq!(files["whitelist"], b".amazonaws.com\n");
            assert_eq!(files["other"], b".example.com\n");
        }
    }

    #[test]
    fn what_is_no_config_map_is_told() {
        let rows = [
            ("", "no ConfigMap with data"),
            ("kind: Secret\nmetadata: {name: x}\ndata: {a: b}\n", "no ConfigMap with data"),
            (
                "kind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\n",
                "no key is called squid.conf; there are a",
            ),
            ("kind: [", "is not YAML"),
            ("kind: ConfigMap\nmetadata: {name: x}\nbinaryData: {a: '%'}\n", "is not base64"),
        ];
        for (yaml, want) in rows {
            let error = read(yaml).expect_err(yaml);
            assert!(error.contains(want), "{yaml}: {error}");
        }
        let twice = format!("{MAP}---\n{}", MAP.replace("squid-conf", "squid-old"));
        assert!(read(&twice).is_err_and(|error| error.contains("`squid-conf` and `squid-old`")));
    }
}
