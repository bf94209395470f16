//! One schema of one that refers to others.
//!
//! A type with a name (a record, an enum, a fixed) is defined once, and is its name wherever else it is used. A definition that is put where
//! its name stood inherits another namespace than it did on its own, so names are made whole: every definition says its namespace, and every
//! use the full name, as [Avro's specification](https://avro.apache.org/docs/1.12.0/specification/#names) has them. A name without a
//! namespace that is not found in the namespace around it is looked for without one, as Avro's own library for Java does.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::error::{Error, Result};

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// Definitions within each other: what is put together of several schemas must still be read as JSON, which nests to a depth of 128.
const MAX_NESTED: usize = 30;

/// Definitions that are written: those that hold others twice, which do likewise, would soon be more than memory has.
const MAX_WRITTEN: usize = 10_000;

/// Where a definition is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// At the first use of its name, as the specification has it.
    FirstUse,
    /// At every use, which a specification of what is written would not allow, and spares a reader to look names up.
    EveryUse,
}

/// The schema with the definitions of those that it refers to, and that these refer to, where their names are first used. All are in JSON.
///
/// # Errors
/// [`Kind::Schema`](crate::error::Kind::Schema) if one of them is no JSON, a type is defined nowhere, or definitions nest too deep.
#[cfg(any(test, feature = "registry"))]
pub(crate) fn inlined(schema: &str, referred: &[impl AsRef<str>]) -> Result<String> {
    let parse = |schema: &str| serde_json::from_str(schema).map_err(|error| Error::schema("the Avro schema is no JSON").with_source(error));
    let schema: Value = parse(schema)?;
    let referred: Vec<Value> = referred.iter().map(|schema| parse(schema.as_ref())).collect::<Result<_>>()?;
    Ok(whole(&schema, &referred, At::FirstUse)?.to_string())
}

/// As [`inlined`].
pub(super) fn whole(schema: &Value, referred: &[Value], at: At) -> Result<Value> {
    let mut inliner = Inliner { at, known: HashMap::new(), written: HashSet::new(), open: Vec::new(), count: 0 };
    inliner.learn(schema, "");
    referred.iter().for_each(|schema| inliner.learn(schema, ""));
    inliner.schema(schema, Around { here: "", there: "" })
}

struct Inliner<'a> {
    at: At,
    /// Every definition by its full name, with the namespace around it.
    known: HashMap<String, (&'a Map<String, Value>, String)>,
    /// The full names of those that were put somewhere.
    written: HashSet<String>,
    /// Those of the definitions that are being written.
    open: Vec<String>,
    count: usize,
}

/// The namespaces around a schema; one that is empty is none.
#[derive(Clone, Copy)]
struct Around<'n> {
    /// Where it stands.
    here: &'n str,
    /// Where it is put.
    there: &'n str,
}

impl<'a> Inliner<'a> {
    /// Takes the definitions in a schema; of several with one name the first counts.
    fn learn(&mut self, schema: &'a Value, namespace: &str) {
        match schema {
            Value::Array(branches) => branches.iter().for_each(|branch| self.learn(branch, namespace)),
            Value::Object(object) => {
                let name = definition(object, namespace);
                let inner = name.as_deref().map_or(namespace, |name| split(name).0).to_owned();
                if let Some(name) = name {
                    self.known.entry(name).or_insert_with(|| (object, namespace.to_owned()));
                }
                let fields = object.get("fields").and_then(Value::as_array).into_iter().flatten();
                let types = fields.filter_map(|field| field.get("type"));
                types.chain(["items", "values"].into_iter().filter_map(|part| object.get(part))).for_each(|part| self.learn(part, &inner));
            }
            _ => {}
        }
    }

    fn schema(&mut self, schema: &Value, around: Around<'_>) -> Result<Value> {
        match schema {
            Value::String(name) => self.used(name, around),
            Value::Array(branches) => branches.iter().map(|branch| self.schema(branch, around)).collect(),
            Value::Object(object) => match (definition(object, around.here), object.get("type").and_then(Value::as_str)) {
                (Some(name), _) => self.defined(name, object, around),
                (None, Some("array")) => self.with(object, "items", around),
                (None, Some("map")) => self.with(object, "values", around),
                // What stands beside a name is of no account, as the definition has its own.
                (None, Some(name)) if !PRIMITIVES.contains(&name) => self.used(name, around),
                _ => Ok(schema.clone()),
            },
            _ => Ok(schema.clone()),
        }
    }

    /// A use of a type by its name.
    fn used(&mut self, name: &str, around: Around<'_>) -> Result<Value> {
        if PRIMITIVES.contains(&name) {
            return Ok(Value::from(name));
        }
        let mut full = full_name(name, around.here);
        if !self.known.contains_key(full.as_ref()) && !name.contains('.') {
            full = Cow::Borrowed(name);
        }
        let Some((object, here)) = self.known.get(full.as_ref()) else {
            return Err(Error::schema(format!(
                "the Avro schema uses the type `{}`, which neither it nor what it refers to defines",
                full_name(name, around.here)
            )));
        };
        let (object, here) = (*object, here.clone());
        self.defined(full.into_owned(), object, Around { here: &here, there: around.there })
    }

    /// A definition, or the name of what has been defined already or holds this use of it.
    fn defined(&mut self, name: String, object: &Map<String, Value>, around: Around<'_>) -> Result<Value> {
        let is_written = !self.written.insert(name.clone());
        if self.open.contains(&name) || is_written && self.at == At::FirstUse {
            return Ok(match split(&name) {
                // What has no namespace says so where it would inherit one.
                ("", simple) if !around.there.is_empty() => Value::from(format!(".{simple}")),
                _ => Value::from(name),
            });
        }
        self.count += 1;
        if self.open.len() >= MAX_NESTED || self.count > MAX_WRITTEN {
            let (many, how) = if self.count > MAX_WRITTEN { (MAX_WRITTEN, "are used") } else { (MAX_NESTED, "nest") };
            return Err(Error::schema(format!("the types of the Avro schema {how} more than {many} times over, `{name}` the last")));
        }
        let (namespace, simple) = split(&name);
        let mut made = object.clone();
        made.insert("name".to_owned(), Value::from(simple));
        match namespace == around.there && namespace.is_empty() {
            true => made.remove("namespace"),
            false => made.insert("namespace".to_owned(), Value::from(namespace)),
        };
        self.open.push(name.clone());
        let inner = Around { here: namespace, there: namespace };
        for field in made.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(kind) = field.get_mut("type") {
                *kind = self.schema(kind, inner)?;
            }
        }
        self.open.pop();
        Ok(Value::Object(made))
    }

    /// An array or a map, with what its `part` is of.
    fn with(&mut self, object: &Map<String, Value>, part: &str, around: Around<'_>) -> Result<Value> {
        let mut made = object.clone();
        if let Some(kind) = made.get_mut(part) {
            *kind = self.schema(kind, around)?;
        }
        Ok(Value::Object(made))
    }
}

/// The full name of what an object defines, if it does, within `namespace`.
fn definition(object: &Map<String, Value>, namespace: &str) -> Option<String> {
    let text = |part: &str| object.get(part).and_then(Value::as_str);
    match text("type")? {
        "record" | "error" | "enum" | "fixed" => Some(full_name(text("name")?, text("namespace").unwrap_or(namespace)).into_owned()),
        _ => None,
    }
}

/// A name within a namespace; one with a point is whole, and begins with it if it is of no namespace.
fn full_name<'n>(name: &'n str, namespace: &str) -> Cow<'n, str> {
    match (name.strip_prefix('.'), name.contains('.') || namespace.is_empty()) {
        (Some(simple), _) => Cow::Borrowed(simple),
        (None, true) => Cow::Borrowed(name),
        (None, false) => Cow::Owned(format!("{namespace}.{name}")),
    }
}

/// The namespace of a full name, and the name within it.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn put_together(schema: &Value, referred: &[Value]) -> Result<Value> {
        let referred: Vec<String> = referred.iter().map(Value::to_string).collect();
        Ok(serde_json::from_str(&inlined(&schema.to_string(), &referred)?).unwrap())
    }

    fn record(name: &str, namespace: Option<&str>, fields: &[(&str, Value)]) -> Value {
        let fields: Vec<Value> = fields.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
        let mut made = json!({"type": "record", "name": name, "fields": fields});
        if let Some(namespace) = namespace {
            made["namespace"] = namespace.into();
        }
        made
    }

    #[test]
    fn definitions_stand_where_their_names_are_first_used() {
        let money = record("Money", Some("shop.common"), &[("cents", json!("long")), ("currency", json!("Currency"))]);
        let currency = json!({"type": "enum", "name": "shop.common.Currency", "symbols": ["EUR", "USD"], "aliases": ["Coin"]});
        let fields = [
            ("price", json!(["null", "shop.common.Money"])),
            ("tax", json!("shop.common.Money")),
            ("parts", json!({"type": "array", "items": {"type": "map", "values": "shop.common.Currency"}})),
            ("of", record("Of", None, &[("payment", json!("int"))])),
            ("again", json!({"type": "Of", "doc": "not this"})),
            ("at", json!({"type": "long", "logicalType": "timestamp-millis"})),
        ];
        let mut payment = record("Payment", Some("shop"), &fields);
        payment["fields"][1]["default"] = json!("shop.common.Money");
        let found = put_together(&payment, &[currency, money]).unwrap();
        let mut expected = payment.clone();
        let coin = json!({"type": "enum", "name": "Currency", "namespace": "shop.common", "symbols": ["EUR", "USD"], "aliases": ["Coin"]});
        let inner = [("cents", json!("long")), ("currency", coin)];
        expected["fields"][0]["type"][1] = record("Money", Some("shop.common"), &inner);
        expected["fields"][3]["type"]["namespace"] = json!("shop");
        expected["fields"][4]["type"] = json!("shop.Of");
        assert_eq!(found, expected);
    }

    #[test]
    fn names_without_a_namespace_keep_none() {
        let plain = record("Plain", None, &[("x", json!("int")), ("other", json!("Other"))]);
        let other = json!({"type": "fixed", "name": "Other", "size": 2});
        let payment = record("Payment", Some("shop"), &[("a", json!("Plain")), ("b", json!("Plain")), ("c", json!("Other"))]);
        let found = put_together(&payment, &[other, plain.clone()]).unwrap();
        let fixed = json!({"type": "fixed", "name": "Other", "size": 2});
        let inner = record("Plain", Some(""), &[("x", json!("int")), ("other", fixed)]);
        let expected = record("Payment", Some("shop"), &[("a", inner), ("b", json!(".Plain")), ("c", json!(".Other"))]);
        assert_eq!(found, expected);
        // What is whole stays as it is.
        assert_eq!(put_together(&found, &[]).unwrap(), found);
        assert_eq!(put_together(&record("R", None, &[("x", json!("int"))]), &[]).unwrap(), record("R", None, &[("x", json!("int"))]));
    }

    #[test]
    fn what_cannot_be_put_together_says_why() {
        let payment = record("Payment", Some("shop"), &[("a", json!("Money"))]);
        let error = put_together(&payment, &[]).unwrap_err().to_string();
        assert!(error.contains("uses the type `shop.Money`, which neither it nor what it refers to defines"), "{error}");
        assert!(inlined("{", &["\"int\""]).unwrap_err().to_string().contains("no JSON"));
        // A chain of types, and one of each of which holds the next twice.
        let link = |number: usize| {
            record(&format!("T{number}"), None, &[("a", json!(format!("T{}", number + 1))), ("b", json!(format!("T{}", number + 1)))])
        };
        let chain = |length: usize| (1..length).map(link).chain([record(&format!("T{length}"), None, &[])]).collect::<Vec<_>>();
        assert!(put_together(&link(0), &chain(MAX_NESTED - 1)).is_ok());
        let error = put_together(&link(0), &chain(MAX_NESTED)).unwrap_err().to_string();
        assert!(error.contains("nest more than 30 times over"), "{error}");
        let error = whole(&link(0), &chain(20), At::EveryUse).unwrap_err().to_string();
        assert!(error.contains("are used more than 10000 times over"), "{error}");
        let twice = whole(&link(0), &chain(1), At::EveryUse).unwrap();
        assert_eq!(twice["fields"][0]["type"], twice["fields"][1]["type"]);
        // A type that holds itself is its name there.
        let list = record("List", Some("x"), &[("next", json!(["null", "List"]))]);
        for at in [At::FirstUse, At::EveryUse] {
            assert_eq!(whole(&list, &[], at).unwrap()["fields"][0]["type"][1], "x.List");
        }
    }

    /// The schema with every use of a name written out, and every name whole: what it means, whoever defines what.
    fn meaning(schema: &Value, namespace: &str, known: &HashMap<String, Value>) -> Value {
        match schema {
            Value::String(name) if PRIMITIVES.contains(&name.as_str()) => schema.clone(),
            Value::String(name) => {
                let full = full_name(name, namespace);
                known.get(full.as_ref()).or_else(|| known.get(name)).cloned().unwrap()
            }
            Value::Array(branches) => branches.iter().map(|branch| meaning(branch, namespace, known)).collect(),
            object => {
                let mut made = object.clone();
                let name = definition(object.as_object().unwrap(), namespace).unwrap();
                for field in made["fields"].as_array_mut().unwrap() {
                    field["type"] = meaning(&field["type"], split(&name).0, known);
                }
                made["name"] = name.into();
                made.as_object_mut().unwrap().remove("namespace");
                made
            }
        }
    }

    /// The definitions in schemas that were read one after the other, each written out.
    fn definitions(schemas: &[Value]) -> HashMap<String, Value> {
        fn walk(schema: &Value, namespace: &str, known: &mut HashMap<String, Value>) {
            for object in schema.as_array().into_iter().flatten().chain([schema]).filter_map(Value::as_object) {
                let name = definition(object, namespace).unwrap();
                for field in object["fields"].as_array().unwrap() {
                    walk(&field["type"], split(&name).0, known);
                }
                let whole = meaning(&Value::Object(object.clone()), namespace, known);
                known.insert(name, whole);
            }
        }
        let mut known = HashMap::new();
        schemas.iter().for_each(|schema| walk(schema, "", &mut known));
        known
    }

    /// One of the types before, and whether its name is as short as can be.
    type Use = (prop::sample::Index, bool);

    /// Types, each of which uses those before it: the namespace it has, whether it is in a schema of its own, and what it uses, by full name
    /// or as short as can be.
    fn schemas(types: &[(usize, bool, Vec<Use>)]) -> Vec<Value> {
        let namespaces = ["", "a", "a.b", "b"];
        let (mut made, mut pending, mut names): (Vec<Value>, Vec<Value>, Vec<String>) = Default::default();
        for (number, (namespace, alone, uses)) in types.iter().enumerate() {
            let namespace = namespaces[namespace % namespaces.len()];
            // What is in no schema of its own is in that of the next type.
            let mut fields = std::mem::take(&mut pending);
            for (index, short) in uses {
                let Some(name) = (!names.is_empty()).then(|| index.get(&names)) else { continue };
                let (space, simple) = split(name);
                // Within a definition that stands in another one, what has no namespace is found all the same.
                let name = if *short && space == namespace || space.is_empty() { simple } else { name };
                fields.push(json!(["null", name]));
            }
            let fields: Vec<(String, Value)> = fields.into_iter().enumerate().map(|(place, kind)| (format!("f{place}"), kind)).collect();
            let fields: Vec<(&str, Value)> = fields.iter().map(|(name, kind)| (name.as_str(), kind.clone())).collect();
            let simple = format!("T{number}");
            let definition = match number % 2 {
                0 => record(&simple, Some(namespace), &fields),
                _ => record(full_name(&simple, namespace).as_ref(), if namespace.is_empty() { Some("") } else { None }, &fields),
            };
            names.push(full_name(&simple, namespace).into_owned());
            match alone {
                true => made.push(definition),
                false => pending.push(definition),
            }
        }
        made.extend(pending);
        made
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_put_together_means_what_its_parts_do(
            types in prop::collection::vec((0..4_usize, any::<bool>(), prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..3)), 1..8),
        ) {
            let schemas = schemas(&types);
            let (last, referred) = schemas.split_last().unwrap();
            let known = definitions(&schemas);
            let found = put_together(last, referred).unwrap();
            prop_assert_eq!(meaning(&found, "", &definitions(std::slice::from_ref(&found))), meaning(last, "", &known));
            let spelled = whole(last, referred, At::EveryUse).unwrap();
            prop_assert_eq!(meaning(&spelled, "", &HashMap::new()), meaning(last, "", &known));
        }
    }
}
