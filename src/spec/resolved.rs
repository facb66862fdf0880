//! Resolved recipes: one value for each field of the table, by number.
//!
//! A grid of a million cells has few different values; a recipe is an array of their numbers, and
//! the structure `Recipe` is built where a stage starts.

use super::document;
use super::fields::{self, COUNT, FIELDS, Kind};
use super::problem::Sources;
use super::recipe::Recipe;
use super::task::DataShape;
use super::value::{Value, coerce};
use std::collections::HashMap;

/// Number of a value in [`Values`].
pub type ValueId = u32;

/// The number that stands for "not set".
pub const UNSET: ValueId = ValueId::MAX;

/// A recipe: for each field of the table the number of its value.
pub type Flat = [ValueId; COUNT];

/// Different values, numbered.
#[derive(Debug, Clone, Default)]
pub struct Values {
    list: Vec<(Value, String)>,
    numbers: HashMap<String, ValueId>,
}

impl Values {
    /// The number of `value`, which is added when it is new.
    pub fn intern(&mut self, value: &Value) -> ValueId {
        let canonical = value.canonical();
        if let Some(&id) = self.numbers.get(&canonical) {
            return id;
        }
        let id = self.list.len() as ValueId;
        self.numbers.insert(canonical.clone(), id);
        self.list.push((value.clone(), canonical));
        id
    }

    /// The value with this number; [`UNSET`] and unknown numbers are null.
    pub fn get(&self, id: ValueId) -> &Value {
        self.list
            .get(id as usize)
            .map_or(&Value::Null, |(value, _)| value)
    }

    /// The canonical text of the value with this number.
    pub fn canonical(&self, id: ValueId) -> &str {
        self.list.get(id as usize).map_or("null", |(_, text)| text)
    }
}

/// The values of fields that have a default, and `None` for those that don't.
pub fn defaults() -> Vec<Option<Value>> {
    FIELDS
        .iter()
        .map(|field| {
            let mut sources = Sources::default();
            let source = sources.add(field.path, field.default?);
            let node = document::parse(&sources, source, &mut Vec::new())?;
            coerce(field, &node).ok()
        })
        .collect()
}

/// A resolved recipe with its values, for checks and costs.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub flat: &'a Flat,
    pub values: &'a Values,
    pub shape: DataShape,
}

impl<'a> View<'a> {
    /// The value of a field.
    pub fn value(&self, field: usize) -> &'a Value {
        self.values.get(self.flat[field])
    }

    /// A whole number from 0; 0 where the field holds something else.
    pub fn count(&self, field: usize) -> u64 {
        self.value(field).as_count().unwrap_or(0)
    }

    /// A number; 0 where the field holds something else.
    pub fn number(&self, field: usize) -> f64 {
        self.value(field).as_f64().unwrap_or(0.0)
    }

    /// A text; empty where the field holds something else.
    pub fn text(&self, field: usize) -> &'a str {
        self.value(field).as_text().unwrap_or("")
    }
}

/// Where the field for test images stands.
pub const EVAL_RESOLUTION: usize = fields::index("eval.resolution");
/// Where the field for training images stands.
pub const TRAIN_RESOLUTION: usize = fields::index("train.resolution");

/// Test images have the size of training images where nothing else is said.
pub fn complete(flat: &mut Flat, values: &Values) {
    if *values.get(flat[EVAL_RESOLUTION]) == Value::Null {
        flat[EVAL_RESOLUTION] = flat[TRAIN_RESOLUTION];
    }
}

/// Why values make no recipe (a program error: values come from the table).
#[derive(Debug, thiserror::Error)]
#[error("the table of fields and the recipe disagree: {0}")]
pub struct Mismatch(#[from] serde_json::Error);

/// The structure that the values of all fields, in the table's order, stand for.
pub fn to_recipe<'a>(values: impl Iterator<Item = &'a Value>) -> Result<Recipe, Mismatch> {
    let mut root = serde_json::Map::new();
    for (field, value) in FIELDS.iter().zip(values) {
        let Some((section, key)) = field.path.split_once('.') else {
            continue;
        };
        let section = root
            .entry(section)
            .or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
        if let serde_json::Value::Object(section) = section {
            section.insert(key.to_owned(), value.to_json());
        }
    }
    Ok(serde_json::from_value(serde_json::Value::Object(root))?)
}

impl Recipe {
    /// What stands for the recipe of a stage that has none: defaults, and the least of every field without one.
    pub fn none() -> Recipe {
        static NONE: std::sync::OnceLock<Recipe> = std::sync::OnceLock::new();
        let build = || {
            let least = |field: &fields::Field| match field.kind {
                Kind::Integer { min, .. } => Value::Integer(min),
                Kind::Number(range) => Value::number(range.min),
                Kind::Choice(choices) => Value::Text(choices[0].to_owned()),
                _ => Value::Text("none".to_owned()),
            };
            let mut values: Vec<Value> = FIELDS
                .iter()
                .zip(defaults())
                .map(|(field, default)| default.unwrap_or_else(|| least(field)))
                .collect();
            values[EVAL_RESOLUTION] = values[TRAIN_RESOLUTION].clone();
            to_recipe(values.iter()).expect("the table of fields matches the recipe (tested)")
        };
        NONE.get_or_init(build).clone()
    }

    /// Whether it is [`Recipe::none`].
    pub fn is_none(&self) -> bool {
        *self == Recipe::none()
    }
}

/// The values of all fields, in the table's order.
pub fn from_recipe(recipe: &Recipe) -> Vec<Value> {
    let json = serde_json::to_value(recipe).unwrap_or_default();
    FIELDS
        .iter()
        .map(|field| {
            let found = field
                .path
                .split('.')
                .try_fold(&json, |json, key| json.get(key));
            found
                .and_then(|json| Value::from_json(field, json))
                .unwrap_or(Value::Null)
        })
        .collect()
}
