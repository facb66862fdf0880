//! JSON Schema of the language, and the reference of its fields: both made from the table.

use super::arch;
use super::axes::DESIGNS;
use super::fields::{ARCH, FIELDS, Field, Kind, Range, sections};
use super::library;
use super::priority;
use super::report::{CORRECTIONS, DIRECTIONS, METRICS, PLOT_KINDS, PLOT_X, TABLE_KINDS};
use super::value::{Value, coerce, expected};
use serde_json::{Map, Value as Json, json};

/// Which files a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    Experiment,
    Recipe,
}

/// The schema (draft 2020-12) of a kind of file.
pub fn json_schema(file: File) -> Json {
    let definitions = json!({
        "fields": fields(),
        "patch": patch(true),
        "settings": patch(false),
        "labels": {
            "type": "object",
            "description": "Axes and labels.",
            "additionalProperties": {"$ref": "#/$defs/label"},
        },
        "label": {"anyOf": [
            {"type": ["string", "number", "boolean"]},
            {"type": "array", "items": {"type": ["string", "number", "boolean"]}},
        ]},
        "names": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "priority": {"type": "integer", "minimum": -priority::MOST, "maximum": priority::MOST},
        "seeds": {
            "description": "A count of replicates, or their seeds.",
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "array", "minItems": 1, "uniqueItems": true, "items": {"type": "integer", "minimum": 0}},
            ],
        },
        "axis": axis(),
        "stage": {
            "type": ["object", "null"],
            "additionalProperties": false,
            "properties": {
                "from": {"type": ["string", "null"], "description": "The stage whose final weights this one starts from."},
                "init": {"type": ["string", "null"], "description": "A file of weights that it starts from: torch.save or safetensors, official names or timm's."},
                "recipe": {"type": ["string", "null"], "description": "Its own recipe; the experiment's where there is none."},
                "set": {"$ref": "#/$defs/settings"},
                "task": {"enum": ["train", "evaluate", "command"], "description": "What it does; train where nothing is said."},
                "command": {"type": ["array", "null"], "minItems": 1, "items": {"type": ["string", "number", "boolean"]},
                    "description": "A program and its arguments, run without a shell; `{optimizer.lr}`, `{params.NAME}` and `{seed}` are filled in."},
                "inputs": {"$ref": "#/$defs/names", "description": "Files that the program reads, as paths or patterns: part of the stage's identity."},
                "metrics": {"type": ["array", "null"], "description": "Metrics that it must have reported in the end.", "items": {"$ref": "#/$defs/metric"}},
                "outputs": {"$ref": "#/$defs/names", "description": "Files that it must have left in its folder in the end."},
                "environment": {"type": ["object", "null"], "description": "Variables of its environment.", "additionalProperties": {"type": ["string", "number", "boolean"]}},
                "params": {"$ref": "#/$defs/names", "description": "The parameters that it is told; all where nothing is said."},
                "gpus": {"type": "integer", "minimum": 0, "maximum": 64},
                "threads": {"type": "integer", "minimum": 1, "maximum": 4096},
            },
        },
        "metric": {"anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "required": ["name"],
                "additionalProperties": false,
                "properties": {
                    "name": {"type": "string"},
                    "better": {"enum": ["higher", "lower"]},
                    "unit": {"type": "string"},
                },
            },
        ]},
        "params": {
            "type": ["object", "null"],
            "description": "Free parameters of programs, with their values.",
            "additionalProperties": {"$ref": "#/$defs/param"},
        },
        "param": {"anyOf": [
            {"type": ["string", "number", "boolean", "null"]},
            {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}},
            {"$ref": "#/$defs/params"},
        ]},
        "cells": {"anyOf": [
            {"$ref": "#/$defs/labels"},
            {"type": "array", "items": {"$ref": "#/$defs/labels"}},
        ]},
        "design": {
            "description": "How axes combine.",
            "anyOf": [
                {"enum": DESIGNS.iter().filter(|name| **name != "list").collect::<Vec<_>>()},
                {
                    "type": "object",
                    "required": ["list"],
                    "additionalProperties": false,
                    "properties": {"list": {"$ref": "#/$defs/cells"}},
                },
            ],
        },
        "duration": {
            "type": ["string", "number", "null"],
            "examples": ["90s", "10m", "1h30m", "2d"],
        },
        "execution": {
            "type": "object",
            "description": "How stages are carried out; not part of their identity.",
            "additionalProperties": false,
            "properties": {
                "timeout": {"$ref": "#/$defs/duration", "description": "Longest wall time of an attempt."},
                "hung_after": {"$ref": "#/$defs/duration", "description": "Time without an event, without CPU time and without reading or writing after which an attempt hangs."},
                "grace": {"$ref": "#/$defs/duration", "description": "Time that an attempt has to write a checkpoint and leave."},
                "out_of_memory": {"enum": ["same", "smaller_parts"], "description": "How a stage that ran out of memory is tried again."},
                "checkpoints": {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "every": {"$ref": "#/$defs/duration", "description": "Time between checkpoints."},
                        "every_epochs": {"type": ["integer", "null"], "minimum": 1, "description": "Epochs between checkpoints, besides."},
                        "keep": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "Newest checkpoints that are kept."},
                        "best": {"type": "boolean", "description": "Keep the weights of the best evaluation, too."},
                    },
                },
            },
        },
        "report": report(),
    });
    let mut schema = match file {
        File::Experiment => experiment(),
        File::Recipe => recipe(),
    };
    if let Json::Object(schema) = &mut schema {
        schema.insert("$defs".to_owned(), definitions);
    }
    schema
}

/// The `report` section.
fn report() -> Json {
    let names = json!({"$ref": "#/$defs/names"});
    let text = json!({"type": "string"});
    let name = json!({"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 64});
    let metric = json!({
        "type": "string",
        "examples": METRICS,
        "description": "Of the trainer, or one that a stage's program promises.",
    });
    let metrics = json!({"anyOf": [metric.clone(), {"type": "array", "items": metric.clone()}]});
    let object = |properties: Json| json!({"type": "object", "additionalProperties": false, "properties": properties});
    let table = object(json!({
        "name": name,
        "title": text,
        "kind": {"enum": TABLE_KINDS},
        "rows": names,
        "columns": names,
        "metrics": metrics,
        "baseline": {"$ref": "#/$defs/labels"},
        "sort": {"type": "string", "description": "A metric (best first) or an axis; `-` in front reverses it."},
        "groups": {"type": "string", "description": "Axis whose labels head groups of rows."},
        "ticks": {
            "type": "object",
            "additionalProperties": {"type": "object", "additionalProperties": names},
            "description": "Columns of check marks: by axis, what its labels stand for, and which of them have it.",
        },
        "footnotes": names,
        "transposed": {"type": "boolean"},
    }));
    let mut plot = object(json!({
        "kind": {"enum": PLOT_KINDS},
        "name": name,
        "title": text,
        "metric": metric,
        "x": {"enum": PLOT_X, "description": "Along the x axis of `against`."},
        "stage": text,
        "rows": text,
        "columns": text,
        "count": {"type": "integer", "minimum": 1, "maximum": 64},
    }));
    plot["required"] = json!(["kind"]);
    let reference = object(json!({
        "at": {"$ref": "#/$defs/labels", "description": "The variants that it belongs to."},
        "id": {"type": "string", "description": "A row of `v_reference`."},
        "curve": {"type": "string", "description": "A run of `v_reference_curves`."},
        "value": {"type": "number"},
        "std": {"type": "number", "exclusiveMinimum": 0},
        "metric": metric,
        "stage": text,
        "set": {"type": "string", "description": "Evaluation set; otherwise that of the row."},
        "direction": {"enum": DIRECTIONS, "description": "What a published statement without a number says of these variants against the baseline."},
        "source": text,
        "confidence": text,
    }));
    let list = |item: Json| json!({"anyOf": [item.clone(), {"type": "array", "items": item}]});
    let mut report = object(json!({
        "metrics": metrics,
        "rows": {"$ref": "#/$defs/names", "description": "Axes along the rows."},
        "columns": {"$ref": "#/$defs/names", "description": "Axes along the columns."},
        "correction": {"enum": CORRECTIONS, "description": "Of p values, for the number of comparisons."},
        "margin": {"type": "number", "exclusiveMinimum": 0, "description": "Largest difference that counts as none."},
        "bootstrap": {"type": "integer", "minimum": 0, "description": "Draws of the seed x image bootstrap."},
        "tables": list(json!({"anyOf": [{"enum": TABLE_KINDS}, table]})),
        "plots": list(json!({"anyOf": [{"enum": PLOT_KINDS}, plot]})),
        "reference": list(reference),
    }));
    report["properties"]["metrics"]["description"] = json!("The first is the headline.");
    report
}

/// Sections that experiments and their profiles have.
fn shared_sections() -> Map<String, Json> {
    let recipes: Vec<&str> = library::recipe_names().collect();
    let sections = json!({
        "title": {"type": "string"},
        "claim": {"type": "string", "description": "What is claimed, what it costs, the number it should reach."},
        "recipe": {"type": "string", "description": "A recipe in `recipes/` beside the file, or built in.", "examples": recipes},
        "params": {"$ref": "#/$defs/params"},
        "set": {"$ref": "#/$defs/patch", "description": "A patch over the recipe."},
        "axes": {
            "type": "object",
            "description": "What varies.",
            "additionalProperties": {"$ref": "#/$defs/axis"},
        },
        "design": {"$ref": "#/$defs/design"},
        "exclude": {"$ref": "#/$defs/cells", "description": "Combinations to leave out."},
        "include": {"$ref": "#/$defs/cells", "description": "Combinations to add."},
        "seeds": {"$ref": "#/$defs/seeds"},
        "stages": {
            "type": "object",
            "description": "Jobs of a run.",
            "additionalProperties": {"$ref": "#/$defs/stage"},
        },
        "report": {"$ref": "#/$defs/report"},
        "baseline": {"$ref": "#/$defs/labels", "description": "What deltas are taken against."},
        "priority": {
            "description": "What is trained first: of the whole experiment, or per axis of its labels. Higher goes first.",
            "anyOf": [
                {"$ref": "#/$defs/priority"},
                {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "additionalProperties": {"$ref": "#/$defs/priority"},
                    },
                },
            ],
        },
        "execution": {"$ref": "#/$defs/execution"},
    });
    match sections {
        Json::Object(sections) => sections,
        _ => Map::new(),
    }
}

fn experiment() -> Json {
    let mut properties = Map::new();
    properties.insert(
        "name".to_owned(),
        json!({"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$", "maxLength": 64}),
    );
    properties.extend(shared_sections());
    let mut profile = shared_sections();
    for nullable in [
        "exclude",
        "include",
        "baseline",
        "report",
        "design",
        "execution",
    ] {
        if let Some(section) = profile.get_mut(nullable) {
            *section = json!({"anyOf": [section.clone(), {"type": "null"}]});
        }
    }
    properties.insert(
        "profiles".to_owned(),
        json!({
            "type": "object",
            "description": "Named patches over this file; `quick` is used where nothing else is asked for.",
            "additionalProperties": {
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": profile,
                "patternProperties": {"^x-": true},
            },
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ablate experiment",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "patternProperties": {"^x-": true},
    })
}

fn recipe() -> Json {
    let mut properties = Map::new();
    properties.insert(
        "inherits".to_owned(),
        json!({"type": "string", "description": "The recipe to start from."}),
    );
    properties.insert("description".to_owned(), json!({"type": "string"}));
    properties.extend(field_properties());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ablate recipe",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "patternProperties": {"^x-": true, PARAMS: {"$ref": "#/$defs/param"}},
    })
}

fn axis() -> Json {
    let list = json!({"type": "array", "minItems": 1});
    let labelled = json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"$ref": "#/$defs/patch"},
    });
    json!({"anyOf": [
        list,
        {
            "type": "object",
            "required": ["values"],
            "additionalProperties": false,
            "properties": {
                "values": {"anyOf": [list, labelled]},
                "path": {"anyOf": [
                    {"enum": FIELDS.iter().map(|field| field.path).chain([ARCH]).collect::<Vec<_>>()},
                    {"type": "string", "pattern": PARAMS},
                ]},
                "stages": {"$ref": "#/$defs/names"},
            },
        },
        labelled,
        {"type": "null"},
    ]})
}

fn patch(stages: bool) -> Json {
    let mut properties = field_properties();
    if stages {
        properties.insert(
            "stages".to_owned(),
            json!({
                "type": "object",
                "description": "What applies to one stage only.",
                "additionalProperties": {"$ref": "#/$defs/settings"},
            }),
        );
    }
    json!({
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": properties,
        "patternProperties": {PARAMS: {"$ref": "#/$defs/param"}},
    })
}

/// Paths of free parameters.
const PARAMS: &str = r"^params\.";

/// Every field by its dotted path, and every section with its fields.
fn field_properties() -> Map<String, Json> {
    let mut properties = Map::new();
    for section in sections() {
        let inside = format!("{section}.");
        let mut own = Map::new();
        let paths = FIELDS.iter().map(|field| field.path).chain([ARCH]);
        for path in paths.filter(|path| path.starts_with(&inside)) {
            let reference = json!({"$ref": format!("#/$defs/fields/{path}")});
            own.insert(path[inside.len()..].to_owned(), reference.clone());
            properties.insert(path.to_owned(), reference);
        }
        properties.insert(
            section.to_owned(),
            json!({"type": "object", "additionalProperties": false, "properties": own}),
        );
    }
    properties.insert("params".to_owned(), json!({"$ref": "#/$defs/params"}));
    properties
}

fn fields() -> Json {
    let mut fields: Map<String, Json> = FIELDS
        .iter()
        .map(|field| (field.path.to_owned(), field_schema(field)))
        .collect();
    fields.insert(
        ARCH.to_owned(),
        json!({
            "type": "string",
            "description": "Shorthand for patch_size, embed_dim, depth, num_heads and parallel_branches.",
            "examples": arch::NAMES,
        }),
    );
    Json::Object(fields)
}

fn bounds(range: &Range) -> Json {
    let mut schema = json!({"type": "number"});
    schema[if range.above_min {
        "exclusiveMinimum"
    } else {
        "minimum"
    }] = json!(range.min);
    schema[if range.below_max {
        "exclusiveMaximum"
    } else {
        "maximum"
    }] = json!(range.max);
    schema
}

fn field_schema(field: &Field) -> Json {
    let mut schema = match field.kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Number(range) => bounds(&range),
        Kind::Pair(range) | Kind::Couple(range) => {
            json!({"type": "array", "minItems": 2, "maxItems": 2, "items": bounds(&range)})
        }
        Kind::Choice(choices) => json!({"enum": choices}),
        Kind::Choices(choices) => {
            json!({"type": "array", "uniqueItems": true, "items": {"enum": choices}})
        }
        Kind::Integers { min, max } => {
            json!({"type": "array", "uniqueItems": true, "items": {"type": "integer", "minimum": min, "maximum": max}})
        }
        Kind::Names => {
            json!({"type": "array", "uniqueItems": true, "items": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}})
        }
        Kind::Text => json!({"type": "string", "minLength": 1}),
        Kind::Policy => {
            json!({"type": "string", "pattern": super::policy::PATTERN})
        }
    };
    if field.nullable {
        schema = json!({"anyOf": [schema, {"type": "null"}]});
    }
    schema["description"] = json!(field.doc);
    if let Some(default) = default_value(field) {
        schema["default"] = default.to_json();
    }
    schema
}

fn default_value(field: &Field) -> Option<Value> {
    let mut sources = super::problem::Sources::default();
    let source = sources.add(field.path, field.default?);
    let node = super::document::parse(&sources, source, &mut Vec::new())?;
    coerce(field, &node).ok()
}

/// The reference of all fields as Markdown, for `docs/yaml.md`.
pub fn field_reference() -> String {
    let mut text = String::new();
    for section in sections() {
        text.push_str(&format!(
            "### `{section}`\n\n| field | value | default | meaning |\n| --- | --- | --- | --- |\n"
        ));
        let inside = format!("{section}.");
        for field in FIELDS
            .iter()
            .filter(|field| field.path.starts_with(&inside))
        {
            let default = field
                .default
                .map_or("required".to_owned(), |default| format!("`{default}`"));
            let null = if field.nullable { " or `null`" } else { "" };
            let value = match field.kind {
                Kind::Bool => "`true`, `false`".to_owned(),
                Kind::Integer { min, max } => format!("whole number, {min} to {max}"),
                Kind::Number(range) => format!("number, {}", range.words()),
                Kind::Pair(range) => format!("two ascending numbers, {}", range.words()),
                Kind::Couple(range) => format!("two numbers, {}", range.words()),
                Kind::Choice(choices) => format!("`{}`", choices.join("`, `")),
                Kind::Choices(choices) => format!("list of `{}`", choices.join("`, `")),
                Kind::Integers { min, max } => format!("list of whole numbers, {min} to {max}"),
                Kind::Text | Kind::Policy | Kind::Names => expected(&Field {
                    nullable: false,
                    ..*field
                })
                .trim_start_matches("a ")
                .to_owned(),
            };
            text.push_str(&format!(
                "| `{}` | {value}{null} | {default} | {} |\n",
                field.path, field.doc
            ));
        }
        if section == "model" {
            text.push_str(&format!(
                "| `{ARCH}` | name | | Shorthand for `patch_size`, `embed_dim`, `depth`, `num_heads` and `parallel_branches`: `{}`. |\n",
                arch::NAMES.join("`, `")
            ));
        }
        text.push('\n');
    }
    text
}
