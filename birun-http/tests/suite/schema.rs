//! A check of JSON against the schemas of the OpenAPI document, as far as they go in it.

use serde_json::Value;

/// Panics, naming the place, where a value is not as its schema says. A property that the schema
/// does not know is a fault too: what is answered is documented.
pub(crate) fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Err(fault) = matches(document, schema, value, place) {
        panic!("{fault}");
    }
}

fn matches(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return matches(document, &document["components"]["schemas"][name], value, place);
    }
    if value.is_null() && schema["nullable"] == true {
        return Ok(());
    }
    if let Some(all) = schema["allOf"].as_array() {
        // The document adds descriptions to references in this way: the reference is the schema.
        return matches(document, &all[0], value, place);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let found = any.iter().any(|one| matches(document, one, value, place).is_ok());
        return if found { Ok(()) } else { Err(format!("{place}: {value} fits no alternative")) };
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{place}: {value} is not one of the words"));
    }
    match schema["type"].as_str() {
        None => Ok(()),
        Some("object") => object(document, schema, value, place),
        Some("array") => {
            let items = value.as_array().ok_or_else(|| format!("{place}: {value} is no list"))?;
            let mut each = items.iter().enumerate();
            each.try_for_each(|(at, item)| matches(document, &schema["items"], item, &format!("{place}[{at}]")))
        }
        Some(kind) if is(kind, value) => Ok(()),
        Some(kind) => Err(format!("{place}: {value} is no {kind}")),
    }
}

fn object(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let fields = value.as_object().ok_or_else(|| format!("{place}: {value} is no object"))?;
    for required in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(required.as_str().unwrap()) {
            return Err(format!("{place}: {required} is missing"));
        }
    }
    for (name, field) in fields {
        let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        let known = known.ok_or_else(|| format!("{place}: `{name}` is not documented"))?;
        matches(document, known, field, &format!("{place}.{name}"))?;
    }
    Ok(())
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => false,
    }
}
