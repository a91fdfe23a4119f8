//! The JSON Schema for editors: it accepts what ships, and knows every key.

use std::path::{Path, PathBuf};

use egressd::config;
use serde_json::Value;

use crate::meaning::CONFIGURED;
use crate::yaml_files;

/// A validator for the few keywords of JSON Schema that the schema uses. Any other keyword fails the test, so that none is
/// ignored.
fn validate(schema: &Value, root: &Value, value: &Value) -> Result<(), String> {
    let Value::Object(words) = schema else { return Ok(()) };
    for (word, wanted) in words {
        let fits = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "examples" | "format" => true,
            // Patterns are for editors; what they allow is tested where the text is parsed.
            "pattern" | "minLength" | "maxLength" => true,
            "$ref" => {
                let pointer = wanted.as_str().and_then(|text| text.strip_prefix('#')).unwrap_or_default();
                validate(root.pointer(pointer).ok_or("a dangling $ref")?, root, value).map(|()| true)?
            }
            "type" => {
                let fits = |kind: &Value| match kind.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("integer") => value.is_u64(),
                    Some("boolean") => value.is_boolean(),
                    _ => false,
                };
                wanted.as_array().map_or_else(|| fits(wanted), |kinds| kinds.iter().any(fits))
            }
            "minimum" => value.as_u64().zip(wanted.as_u64()).is_none_or(|(value, least)| value >= least),
            "maximum" => value.as_u64().zip(wanted.as_u64()).is_none_or(|(value, most)| value <= most),
            "const" => value == wanted,
            "enum" => wanted.as_array().is_some_and(|values| values.contains(value)),
            "anyOf" | "oneOf" => {
                wanted.as_array().into_iter().flatten().any(|schema| validate(schema, root, value).is_ok())
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    validate(wanted, root, item)?;
                }
                true
            }
            "required" => wanted
                .as_array()
                .into_iter()
                .flatten()
                .all(|key| key.as_str().is_some_and(|key| value.get(key).is_some())),
            "properties" | "additionalProperties" => true,
            other => return Err(format!("the schema uses `{other}`")),
        };
        if !fits {
            return Err(format!("{value} does not fit {word}: {wanted}"));
        }
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let known = words.get("properties").and_then(|properties| properties.get(key));
        match known.or(words.get("additionalProperties")) {
            Some(Value::Bool(false)) => return Err(format!("unknown key {key}")),
            Some(schema) => validate(schema, root, inner).map_err(|error| format!("{key}: {error}"))?,
            None => {}
        }
    }
    Ok(())
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("valid YAML")
}

#[test]
fn the_schema_accepts_what_ships_and_knows_every_key() {
    let schema = config::schema();
    let examples = yaml_files("config/examples");
    for path in examples.iter().map(PathBuf::as_path).chain([Path::new("config/egressd.yaml")]) {
        let text = std::fs::read_to_string(path).expect("readable");
        validate(&schema, &schema, &yaml(&text))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    validate(&schema, &schema, &yaml(CONFIGURED)).expect("every key is known");
    for wrong in [
        "listners: []",
        "listeners: [{name: proxy}]",
        "listeners: ",
        "policies: [{name: p, mode: off}]",
        "policies: [{name: p, allow: [{to: a.example, expire: 2027-03-31}]}]",
        "policies: [{name: p, allow_files: [{schemes: [https]}]}]",
        "limits: {tunnels: 0}",
        "tunnel: {idle_timeout: 10}",
    ] {
        assert!(validate(&schema, &schema, &yaml(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn the_schema_nowhere_accepts_a_key_without_a_value() {
    assert!(!config::schema().to_string().contains("null"));
}
