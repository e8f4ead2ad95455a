//! A description with its schemas.

use serde_json::{Map, Value, json};

/// An OpenAPI or AsyncAPI document, made strict: a property that is not described is a fault here, though
/// clients are asked to ignore it.
pub(super) struct Document(pub(super) Value);

impl Document {
    pub(super) fn read(text: &str) -> Self {
        let mut root: Value = serde_json::from_str(text).expect("JSON");
        close(&mut root);
        Self(root)
    }

    /// Follows a `$ref` of this document.
    pub(super) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self
                .0
                .pointer(reference.trim_start_matches('#'))
                .unwrap_or_else(|| panic!("{reference} leads nowhere")),
            None => value,
        }
    }

    /// Fails the test where the value is not as the schema says.
    pub(super) fn check(&self, what: &str, schema: &Value, value: &Value) {
        let whole = json!({"components": self.0["components"], "allOf": [schema]});
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&whole)
            .unwrap_or_else(|error| panic!("{what}: {error} in {schema}"));
        let faults: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{what}: {faults:#?}\n{value}");
    }

    pub(super) fn map(&self, pointer: &str) -> &Map<String, Value> {
        let found = self.0.pointer(pointer).and_then(Value::as_object);
        found.unwrap_or_else(|| panic!("no {pointer}"))
    }
}

fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_schema = fields.get("properties").is_some_and(Value::is_object)
                && fields.get("type") == Some(&json!("object"));
            if is_schema {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
