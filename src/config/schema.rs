//! The JSON Schema of the files, for editors (`#:schema tenantd.schema.json`) and for the documentation.
//!
//! Made from the very types that read the files, so it cannot lag behind them.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::written::{MainFile, TenantFile};

/// The schema of a tenant file (draft 2020-12).
pub fn tenant_file() -> Value {
    of::<TenantFile>()
}

/// The schema of `tenantd.toml` (draft 2020-12).
pub fn main_file() -> Value {
    of::<MainFile>()
}

fn of<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    RecursiveTransform(without_null).transform(&mut schema);
    schema.to_value()
}

/// TOML has no null: a key that is optional is left out.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    for key in ["anyOf", "oneOf"] {
        let Some(Value::Array(shapes)) = object.get_mut(key) else { continue };
        shapes.retain(|shape| shape.get("type") != Some(&Value::from("null")));
        if let [Value::Object(only)] = shapes.as_slice() {
            let only = only.clone();
            object.remove(key);
            for (name, value) in only {
                object.entry(name).or_insert(value);
            }
        }
    }
}
