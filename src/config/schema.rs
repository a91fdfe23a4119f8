//! The JSON Schema of the file. It is made from the types that read the file, by a test: what makes it is a third of a megabyte of code, and
//! what it makes never differs.

use serde_json::Value;

/// The JSON Schema (draft 2020-12) of the configuration file, for editors and merge requests. It accepts a little more
/// than [`load`](super::load()), which alone checks ranges across keys, rule strings and named files.
pub fn schema() -> Value {
    serde_json::from_str(include_str!("schema.json")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use schemars::generate::SchemaSettings;
    use schemars::transform::RecursiveTransform;
    use schemars::{JsonSchema, Schema, SchemaGenerator};

    use super::super::file::ConfigFile;
    use super::super::typed::At;
    use super::*;

    /// A person who writes the file does not see the position.
    impl<T: JsonSchema> JsonSchema for At<T> {
        fn inline_schema() -> bool {
            T::inline_schema()
        }

        fn schema_name() -> Cow<'static, str> {
            T::schema_name()
        }

        fn schema_id() -> Cow<'static, str> {
            T::schema_id()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            T::json_schema(generator)
        }
    }

    fn of_the_types() -> Value {
        let generator = SchemaSettings::draft2020_12()
            .with_transform(RecursiveTransform(without_null as fn(&mut Schema)))
            .into_generator();
        generator.into_root_schema_for::<ConfigFile>().to_value()
    }

    /// An optional key may be missing; a key without a value is an error.
    fn without_null(schema: &mut Schema) {
        let Some(object) = schema.as_object_mut() else { return };
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(kinds)) = object.get_mut("anyOf") {
            kinds.retain(|kind| kind.get("type").is_none_or(|kind| kind != "null"));
            if let [Value::Object(only)] = kinds.as_mut_slice() {
                let only = std::mem::take(only);
                object.remove("anyOf");
                object.extend(only);
            }
        }
        if let Some(Value::Array(values)) = object.get_mut("enum") {
            values.retain(|value| !value.is_null());
        }
    }

    /// `UPDATE_EXPECTED=1` writes the file anew.
    #[test]
    fn the_schema_is_that_of_the_types() {
        let want = format!("{:#}\n", of_the_types());
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/schema.json"), want).unwrap();
            return;
        }
        assert!(
            want == include_str!("schema.json"),
            "the types have changed: UPDATE_EXPECTED=1 cargo test --lib the_schema_is"
        );
        assert_eq!(schema(), of_the_types());
    }
}
