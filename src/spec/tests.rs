//! Tests of the language: documents, traps, hostile files, the table of fields, schema, reference.

use super::document::{self, Content, Node};
use super::experiment::{Options, read};
use super::fields::{self, FIELDS};
use super::problem::{Problems, Report, Sources, nearest};
use super::recipe::Recipe;
use super::resolved::{defaults, from_recipe, to_recipe};
use super::schema::{File, field_reference, json_schema};
use super::value::{Value, coerce};
use super::{axes, library, patch};
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn parse(text: &str) -> (Option<Node>, String) {
    let mut sources = Sources::default();
    let source = sources.add("f.yaml", text);
    let mut reports = Vec::new();
    let node = document::parse(&sources, source, &mut reports);
    (node, Problems::new(&sources, &reports).to_string())
}

fn problems(text: &str) -> String {
    read("f.yaml", text, None, &Options::default())
        .map(|_| ())
        .unwrap_err()
        .to_string()
}

/// Only the first line of each problem.
fn headlines(text: &str) -> Vec<String> {
    let problems = read("f.yaml", text, None, &Options::default())
        .map(|_| ())
        .unwrap_err();
    problems
        .0
        .iter()
        .map(|problem| problem.to_string().lines().next().unwrap().to_owned())
        .collect()
}

#[test]
fn nodes_know_their_places_and_what_was_written() {
    let (node, shown) =
        parse("a: 1e-3\nb:\n  - \u{e9}\n  - 'x y'\nc: {d: &k 007, e: *k}\n300: null\n");
    assert_eq!(shown, "");
    let Content::Map(entries) = node.unwrap().content else {
        panic!()
    };
    let at = |node: &Node| (node.position.line, node.position.column);
    assert_eq!(
        (entries[0].value.text(), at(&entries[0].value)),
        (Some("1e-3"), (1, 4))
    );
    let Content::List(items) = &entries[1].value.content else {
        panic!()
    };
    assert_eq!((items[1].text(), at(&items[1])), (Some("x y"), (4, 5)));
    let Content::Map(inner) = &entries[2].value.content else {
        panic!()
    };
    assert_eq!(
        (inner[0].value.text(), at(&inner[0].value)),
        (Some("007"), (5, 11))
    );
    assert_eq!(
        (inner[1].value.text(), at(&inner[1].value)),
        (Some("007"), (5, 19))
    );
    assert_eq!(
        (entries[3].key.as_str(), entries[3].position.line),
        ("300", 6)
    );
    assert_eq!(entries[3].value.content, Content::Null);
}

#[test]
fn all_problems_of_a_file_come_at_once_with_their_lines() {
    let text = "\
nam: x
recipe: quick
set: {optimizr.lr: 1, train: {epoch: 3}}
axes:
  loss: {ce: {loss.name: cee}}
  empty: []
  lr: [1, 2]
seeds: 0
report: {metrics: [top2], rows: [los]}
profiles:
  big: {sed: 3}
";
    assert_eq!(
        problems(text),
        "\
f.yaml:1:1: unknown key `nam` in experiment; did you mean `name`?
  1 | nam: x
    | ^
f.yaml:3:7: unknown key `optimizr.lr` in `set`; did you mean `optimizer.lr`?
  3 | set: {optimizr.lr: 1, train: {epoch: 3}}
    |       ^
f.yaml:3:31: unknown key `epoch` in `train`; did you mean `epochs`?
  3 | set: {optimizr.lr: 1, train: {epoch: 3}}
    |                               ^
f.yaml:5:26: `loss.name` must be one of ce, bce, bce_sum, bce_soft, bce_soft_sum, not `cee`; did you mean `ce`?
  5 |   loss: {ce: {loss.name: cee}}
    |                          ^
f.yaml:6:10: axis `empty` has no values
  6 |   empty: []
    |          ^
f.yaml:7:3: axis `lr` lists values, but `lr` is no configuration path; did you mean `optimizer.lr`?
  7 |   lr: [1, 2]
    |   ^
f.yaml:8:8: `seeds` must be at least 1
  8 | seeds: 0
    |        ^
f.yaml:11:9: unknown key `sed` in profile `big`; did you mean `set`?
  11 |   big: {sed: 3}
     |         ^"
    );
}

#[test]
fn mentions_of_axes_are_checked() {
    let text = "recipe: quick\naxes: {loss: {ce: {loss.name: ce}, bce: {loss.name: bce}}}\nbaseline: {los: ce}\nexclude: [{loss: cee}]\nreport: {metrics: [top2], rows: [loss], columns: [loss]}\ndesign: zap\n";
    assert_eq!(
        headlines(text),
        [
            "f.yaml:3:12: unknown axis `los`; did you mean `loss`?",
            "f.yaml:4:18: axis `loss` has no label `cee`; did you mean `ce`?",
            "f.yaml:5:20: unknown metric `top2`; did you mean `top5`?",
            "f.yaml:5:51: `report` names axis `loss` twice",
            "f.yaml:6:9: unknown design `zap`; did you mean `zip`?",
        ]
    );
}

#[test]
fn typing_traps_end_in_an_error_that_names_them() {
    let message = |set: &str| headlines(&format!("recipe: quick\nset:\n  {set}\n")).join("\n");
    for (set, expected) in [
        (
            "ema.eval: no",
            "f.yaml:3:13: `ema.eval` expects `true` or `false`, not the string `no`; `no` is a string in YAML 1.2; write `false`",
        ),
        (
            "ema.eval: yes",
            "f.yaml:3:13: `ema.eval` expects `true` or `false`, not the string `yes`; `yes` is a string in YAML 1.2; write `true`",
        ),
        (
            "ema.eval: 1",
            "f.yaml:3:13: `ema.eval` expects `true` or `false`, not `1`; `1` is a number in YAML 1.2; write `true`",
        ),
        (
            "ema.eval: 'true'",
            "f.yaml:3:13: `ema.eval` expects `true` or `false`, not the string `true`; write it without quotes",
        ),
        (
            "train.epochs: 010",
            "f.yaml:3:17: `train.epochs` expects a whole number, not the string `010`; a leading zero means octal to some readers of YAML and nothing to others; write `10`",
        ),
        (
            "train.epochs: 1_000",
            "f.yaml:3:17: `train.epochs` expects a whole number, not the string `1_000`; YAML 1.2 has no `_` in numbers; write `1000`",
        ),
        (
            "train.epochs: 1.5",
            "f.yaml:3:17: `train.epochs` expects a whole number, not `1.5`",
        ),
        (
            "train.epochs: 0",
            "f.yaml:3:17: `train.epochs` must be 1 to 1000000, not 0",
        ),
        (
            "train.epochs: 99999999999999999999",
            "f.yaml:3:17: `train.epochs` expects a whole number, not `99999999999999999999`",
        ),
        (
            "train.epochs: on",
            "f.yaml:3:17: `train.epochs` expects a whole number, not the string `on`; `on` is a string in YAML 1.2",
        ),
        (
            "train.epochs: [1]",
            "f.yaml:3:17: `train.epochs` expects a whole number, not a list",
        ),
        (
            "train.epochs:",
            "f.yaml:3:15: `train.epochs` can't be null; it expects a whole number",
        ),
        (
            "optimizer.lr: .nan",
            "f.yaml:3:17: `optimizer.lr` expects a number, not the string `.nan`; the number must be finite",
        ),
        (
            "optimizer.lr: 1e999",
            "f.yaml:3:17: `optimizer.lr` expects a number, not the string `.inf`; the number must be finite",
        ),
        (
            "optimizer.lr: '1e-3'",
            "f.yaml:3:17: `optimizer.lr` expects a number, not the string `1e-3`; write it without quotes",
        ),
        (
            "optimizer.lr: 0,001",
            "f.yaml:3:17: `optimizer.lr` expects a number, not the string `0,001`; write `0.001`",
        ),
        (
            "optimizer.lr: -1",
            "f.yaml:3:17: `optimizer.lr` must be at least 0, not -1",
        ),
        (
            "optimizer.betas: [0.9]",
            "f.yaml:3:20: `optimizer.betas` expects two numbers `[a, b]`, not a list",
        ),
        (
            "optimizer.betas: [0.9, 1]",
            "f.yaml:3:26: `optimizer.betas` must be at least 0, below 1, not 1",
        ),
        (
            "augment.rrc_scale: [1, 0.5]",
            "f.yaml:3:22: `augment.rrc_scale` must ascend, not [1, 0.5]",
        ),
        (
            "model.layer_scale: none",
            "f.yaml:3:22: `model.layer_scale` expects a number or null, not the string `none`; write `null` to switch it off",
        ),
        (
            "augment.policy: 3-augment",
            "f.yaml:3:19: `augment.policy`: `3-augment` is no augmentation policy; did you mean `three_augment`?",
        ),
        (
            "augment.policy: rand-m11-x",
            "f.yaml:3:19: `augment.policy`: `rand-m11-x`: part `m11`: magnitudes go from 0 to 10; known parts of RandAugment: mN (magnitude, 0 to 10), nN (operations per image), pX (probability of each), mstdX (standard deviation of the magnitude), inc1 (increasing list); an example: `rand-m9-mstd0.5-inc1`",
        ),
        (
            "augment.policy: mixup",
            "f.yaml:3:19: `augment.policy`: `mixup` is no augmentation policy; write `none`, `three_augment`, `autoaugment`, `trivialaugment`, or RandAugment or AutoAugment as timm does, such as `rand-m9-mstd0.5-inc1` or `original-mstd0.5`",
        ),
        (
            "augment.policy: original-m5",
            "f.yaml:3:19: `augment.policy`: `original-m5`: part `m5`: not known; the only part of AutoAugment is mstdX (standard deviation of the magnitude); an example: `original-mstd0.5`",
        ),
        (
            "augment.three_augment_ops: [solarize, solarize]",
            "f.yaml:3:41: `augment.three_augment_ops` names `solarize` twice",
        ),
        (
            "model.arch: vit_smal_patch16",
            "f.yaml:3:15: unknown architecture `vit_smal_patch16`; did you mean `vit_small_patch16`?",
        ),
        (
            "train: 5",
            "f.yaml:3:10: `train` is a section and expects a map, not a number",
        ),
        (
            "lr: 5",
            "f.yaml:3:3: unknown key `lr` in `set`; did you mean `optimizer.lr`?",
        ),
        (
            "wd: 5",
            "f.yaml:3:3: unknown key `wd` in `set`; did you mean `optimizer.weight_decay`?",
        ),
        (
            "optimzer: {lr: 1}",
            "f.yaml:3:3: unknown key `optimzer` in `set`; did you mean `optimizer`?",
        ),
        (
            "{optimizer.lr: 1, optimizer: {lr: 2}}",
            "f.yaml:3:33: `optimizer.lr` is set twice here",
        ),
    ] {
        assert_eq!(message(set), expected);
    }
    // Numbers that YAML 1.1 readers take for strings.
    for set in [
        "optimizer.lr: 1e-3",
        "optimizer.lr: 1e3",
        "train.epochs: 1e3",
        "train.epochs: 2.0",
        "data.name: no",
        "data.name: 010",
    ] {
        let experiment = read(
            "f.yaml",
            &format!("recipe: quick\nset: {{{set}}}\n"),
            None,
            &Options::default(),
        );
        assert!(experiment.is_ok(), "{set}");
    }
    let labels = read("f.yaml", "recipe: quick\naxes: {optimizer.lr: [1e-3, 0.0030], augment.hflip: [0, 1], x: {no: {}, on: {mix.prob: 0}}}\n", None, &Options::default()).unwrap();
    let labels: Vec<&str> = labels
        .axes
        .iter()
        .flat_map(|axis| axis.values.iter().map(|v| v.label.as_str()))
        .collect();
    assert_eq!(labels, ["1e-3", "0.0030", "0", "1", "no", "on"]);
}

#[test]
fn syntax_errors_have_a_place() {
    assert_eq!(
        problems("a: [1\n"),
        "f.yaml:1:4: not valid YAML: unclosed bracket '['\n  1 | a: [1\n    |    ^"
    );
    assert_eq!(
        problems(""),
        "f.yaml: the file is empty; an experiment names at least `recipe`"
    );
    assert_eq!(
        problems("- 1\n"),
        "f.yaml:1:1: an experiment expects a map, not a list\n  1 | - 1\n    | ^"
    );
    assert!(
        problems("a: 1\n---\nb: 1\n")
            .contains("f.yaml:3:1: not valid YAML: multiple YAML documents detected")
    );
    assert_eq!(
        headlines(
            "recipe: quick\nseeds: 2\nrecipe: other\nset: {train.epochs: 2, train.epochs: 3}\n"
        ),
        [
            "f.yaml:3:1: key `recipe` stands twice in this map; the other one is in line 1",
            "f.yaml:4:24: key `train.epochs` stands twice in this map; the other one is in line 4",
        ]
    );
    assert!(
        problems("recipe: *nowhere\n")
            .starts_with("f.yaml:1:9: not valid YAML: alias references unknown anchor")
    );
    assert!(
        problems("title: x\n")
            .starts_with("f.yaml: `recipe` is missing; built-in recipes: deit3_800, ")
    );
}

#[test]
fn stages_are_checked() {
    let with = |stages: &str| headlines(&format!("recipe: quick\nstages: {{{stages}}}\n"));
    assert_eq!(
        with("a: {from: b}, b: {from: c}, c: {from: b}"),
        ["f.yaml:2:24: stages start from each other in a circle: b -> c -> b"]
    );
    assert_eq!(
        with("pretrain: {}, b: {from: pretran}"),
        ["f.yaml:2:34: unknown stage `pretran`; did you mean `pretrain`?"]
    );
    assert_eq!(
        with("a: {form: b}"),
        ["f.yaml:2:14: unknown key `form` in stage `a`; did you mean `from`?"]
    );
    assert_eq!(
        with("a: {task: evaluate}"),
        [
            "f.yaml:2:10: stage `a` evaluates, but has no weights to evaluate; name a stage in `from`, or a file in `init`"
        ]
    );
    assert_eq!(
        with("a: {from: a}"),
        ["f.yaml:2:10: stages start from each other in a circle: a -> a"]
    );
    assert_eq!(
        headlines("recipe: quick\naxes: {x: {y: {stages: {trian: {train.epochs: 2}}}}}\n"),
        ["f.yaml:2:25: unknown stage `trian`; did you mean `train`?"]
    );
}

/// Each must end in an error (or be read) at once.
#[test]
fn hostile_files_end_in_an_error_at_once() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let earlier = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{earlier}]\n"));
    }
    let deep_blocks: String = (0..2000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    let many = format!(
        "recipe: quick\naxes: {{optimizer.lr: [{}]}}\n",
        vec!["1"; 300_000].join(",")
    );
    let cases = [
        (
            "alias bomb",
            bomb,
            "aliases stand for more than 20000 values; no experiment needs that",
        ),
        (
            "brackets",
            "[".repeat(100_000),
            "nested deeper than 48 levels",
        ),
        (
            "braces",
            "{a: ".repeat(100_000),
            "nested deeper than 48 levels",
        ),
        ("blocks", deep_blocks, "nested deeper than 48 levels"),
        (
            "dashes",
            "- ".repeat(100_000),
            "nested deeper than 48 levels",
        ),
        (
            "a value with NUL",
            "recipe: qu\0ick\n".to_owned(),
            "f.yaml:1:11: invisible character U+0000 is not allowed",
        ),
        (
            "bidirectional override",
            "recipe: quick # \u{202e}\n".to_owned(),
            "f.yaml:1:17: invisible character U+202E",
        ),
        (
            "byte order mark inside",
            "recipe: \u{feff}quick\n".to_owned(),
            "f.yaml:1:9: invisible character U+FEFF",
        ),
        (
            "escape sequence",
            "\"\\e[31m\": 1\n".to_owned(),
            "unknown key `\\u{1b}[31m`",
        ),
        (
            "escape sequence in a text",
            "title: \"\\e[31m\"\n".to_owned(),
            "`title` contains an invisible character",
        ),
        (
            "escape sequence in a label",
            "axes: {x: {\"\\e\": {}}}\n".to_owned(),
            "or an invisible character",
        ),
        ("too many nodes", many, "more than 200000 values"),
        (
            "too long",
            "a".repeat(document::MAX_BYTES + 1),
            "bytes; at most",
        ),
        ("merge of itself", "a: &a {<<: *a}\n".to_owned(), ""),
        ("long key", format!("{}: 1\n", "k".repeat(100_000)), ""),
        ("tags", "recipe: !!python/object quick\n".to_owned(), ""),
        (
            "many axes",
            format!(
                "recipe: quick\naxes: {{{}}}\ndesign: {{list: [{}]}}\n",
                (0..20_000)
                    .map(|i| format!("a{i}: {{x: {{}}}}"))
                    .collect::<Vec<_>>()
                    .join(", "),
                vec!["{}"; 20_000].join(", ")
            ),
            "more than 100 axes",
        ),
        (
            "many stages",
            format!(
                "recipe: quick\nstages: {{{}}}\n",
                (0..30_000)
                    .map(|i| format!("s{i}: {{}}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            "more than 100 stages",
        ),
        (
            "many profiles",
            format!(
                "recipe: quick\nprofiles: {{{}}}\n",
                (0..30_000)
                    .map(|i| format!("p{i}: {{}}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            "more than 100 profiles",
        ),
        (
            "many unknown keys",
            (0..60_000).map(|i| format!("k{i}: 1\n")).collect(),
            "f.yaml: and 59901 more problems",
        ),
        (
            "many seeds",
            format!(
                "recipe: quik\nseeds: [{}, 1]\n",
                (0..90_000)
                    .map(|i| i.to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            "seed 1 stands twice",
        ),
        (
            "complex key",
            "? [a, b]\n: 1\n".to_owned(),
            "a key must be a scalar, this one is a list",
        ),
    ];
    for (name, text, expected) in cases {
        let start = Instant::now();
        let shown = read("f.yaml", &text, None, &Options::default()).map(|_| "read".to_owned());
        let shown = shown.unwrap_or_else(|problems| problems.to_string());
        // Generous: the machine may be busy. A quadratic reader would need minutes.
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{name} took {:?}",
            start.elapsed()
        );
        assert!(
            shown.starts_with("f.yaml") && shown.contains(expected),
            "{name}: {:.300}",
            shown
        );
        assert!(
            shown
                .lines()
                .all(|line| line.len() < 200_000 && !line.contains(['\u{1b}', '\0', '\u{202e}'])),
            "{name}"
        );
    }
    assert_eq!(parse("\u{feff}a: 1\r\n").1, "");
}

#[test]
fn anchors_and_merge_keys_work() {
    let text = "recipe: quick\nx-base: &base {optimizer.lr: 1e-3, mix.prob: 0.5}\naxes:\n  x:\n    a: *base\n    b: {<<: *base, mix.prob: 1}\n";
    let experiment = read("f.yaml", text, None, &Options::default())
        .unwrap_or_else(|problems| panic!("{problems}"));
    let patches: Vec<_> = experiment.axes[0]
        .values
        .iter()
        .map(|value| &value.patch.settings)
        .collect();
    assert_eq!((patches[0].len(), patches[1].len()), (2, 2));
    let prob = fields::index("mix.prob");
    let of = |patch: &[patch::Setting]| {
        patch
            .iter()
            .find(|setting| setting.field() == Some(prob))
            .map(|s| s.value.clone())
    };
    assert_eq!(of(patches[1]), Some(Value::Number(1.0)));
}

#[test]
fn carets_stand_under_their_columns() {
    let long = format!(
        "set: {{optimizer.lr: 1, {} x: 1}}\n",
        "augment.hflip: 0.5,".to_owned() + &" ".repeat(200)
    );
    let shown = problems(&format!("recipe: quick\n{long}"));
    let mut lines = shown.lines().skip(1);
    let (excerpt, caret) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!(excerpt.find("x: 1"), caret.find('^'));
    assert!(excerpt.chars().count() < 120);
    let shown = problems("recipe: quick\nset: {data.name: \u{e9}\u{e9}, y: 1}\n");
    let column = |line: &str, c: char| line.chars().position(|other| other == c);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(column(lines[1], 'y'), column(lines[2], '^'));
}

/// A recipe with every optional value present, and one with every nullable value null.
fn samples() -> Vec<Recipe> {
    library::recipe_names()
        // It has parameters of a program and no fields of the trainer.
        .filter(|name| *name != "ade20k_upernet")
        .map(|name| {
            let mut sources = Sources::default();
            let mut reports = Vec::new();
            let mut library = library::Library::new(None);
            let settings = library.recipe(name, Default::default(), &mut sources, &mut reports);
            let settings =
                settings.unwrap_or_else(|| panic!("{}", Problems::new(&sources, &reports)));
            let mut values = defaults();
            for setting in settings {
                let field = setting.field().unwrap();
                values[field] = Some(setting.value);
            }
            let resolution = values[fields::index("train.resolution")].clone();
            values[fields::index("eval.resolution")] = resolution;
            let values: Vec<Value> = values
                .into_iter()
                .enumerate()
                .map(|(field, value)| {
                    value.unwrap_or_else(|| panic!("{name} lacks {}", FIELDS[field].path))
                })
                .collect();
            to_recipe(values.iter()).unwrap_or_else(|error| panic!("{name}: {error}"))
        })
        .collect()
}

#[test]
fn built_in_recipes_are_complete() {
    // All but the one for programs, which has no fields of the trainer.
    assert_eq!(samples().len(), library::recipe_names().count() - 1);
}

#[test]
fn the_table_and_the_recipe_name_the_same_fields() {
    for recipe in samples() {
        let json = serde_json::to_value(&recipe).unwrap();
        let mut paths = Vec::new();
        for (section, fields) in json.as_object().unwrap() {
            paths.extend(
                fields
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(|key| format!("{section}.{key}")),
            );
        }
        let table: Vec<&str> = FIELDS.iter().map(|field| field.path).collect();
        assert_eq!(paths, table);
        // And each can hold what the other holds.
        let values = from_recipe(&recipe);
        assert_eq!(to_recipe(values.iter()).unwrap(), recipe);
    }
    // Every choice of the table is a choice of the structure, and the other way round: the structure
    // refuses what the table doesn't know because the table is asked first.
    let recipe = samples().remove(0);
    for (index, field) in FIELDS.iter().enumerate() {
        let choices: Vec<Value> = match field.kind {
            fields::Kind::Choice(choices) => choices
                .iter()
                .map(|c| Value::Text((*c).to_owned()))
                .collect(),
            fields::Kind::Choices(choices) => {
                vec![Value::List(
                    choices
                        .iter()
                        .map(|c| Value::Text((*c).to_owned()))
                        .collect(),
                )]
            }
            _ if field.nullable => vec![Value::Null],
            _ => continue,
        };
        for choice in choices {
            if field.path == "eval.resolution" {
                continue; // null is resolved before the structure is built
            }
            let mut values = from_recipe(&recipe);
            values[index] = choice.clone();
            let built =
                to_recipe(values.iter()).unwrap_or_else(|error| panic!("{}: {error}", field.path));
            assert_eq!(from_recipe(&built)[index], choice);
        }
    }
}

#[test]
fn defaults_fit_their_fields() {
    for (field, default) in FIELDS.iter().zip(defaults()) {
        assert_eq!(field.default.is_some(), default.is_some(), "{}", field.path);
        assert!(
            !field.doc.is_empty() && field.doc.ends_with('.') && !field.doc.contains('\n'),
            "{}",
            field.path
        );
    }
}

#[test]
fn files_and_names_of_experiments() {
    let open = |path: &str| library::open_experiment(std::path::Path::new(path));
    let (name, text, _) = open(concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/loss")).unwrap();
    assert!(name.ends_with("experiments/loss.yaml") && text.contains("name: loss"));
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!(
        open(&inside("")).unwrap_err(),
        "not a file; built-in experiments: loss, augmentation, crop, epochs, fixres, in21k"
    );
    std::fs::write(inside("binary.yaml"), [0x61, 0xff]).unwrap();
    assert_eq!(
        open(&inside("binary.yaml")).unwrap_err(),
        "not UTF-8 text (byte 1)"
    );
    assert!(
        open("experiments/losss.yaml")
            .unwrap_err()
            .starts_with("no such file; built-in experiments: did you mean `loss`?")
    );
}

#[test]
fn an_unknown_profile_is_the_only_problem() {
    let options = Options {
        profile: Some("papre".into()),
        ..Options::default()
    };
    let text = "profiles: {quick: {recipe: quick}, paper: {recipe: deit3_800}}\n";
    let problems = read("f.yaml", text, None, &options)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        problems.to_string(),
        "--profile papre: f.yaml has no profile `papre`; did you mean `paper`?"
    );
}

#[test]
fn nearest_names() {
    assert_eq!(nearest("optimzer", fields::sections()), Some("optimizer"));
    assert_eq!(
        fields::nearest_path("optimizer.learning_rate"),
        Some("optimizer.lr")
    );
    assert_eq!(fields::nearest_path("drop_path"), Some("model.drop_path"));
    assert_eq!(
        fields::nearest_path("label_smothing"),
        Some("loss.label_smoothing")
    );
    assert_eq!(nearest("zzzz", fields::sections()), None);
    assert_eq!(nearest(&"o".repeat(100_000), fields::sections()), None);
}

#[test]
fn schema_covers_the_table_and_resolves() {
    for file in [File::Experiment, File::Recipe] {
        let schema = json_schema(file);
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        let fields = schema["$defs"]["fields"].as_object().unwrap();
        assert_eq!(fields.len(), FIELDS.len() + 1);
        assert!(fields.contains_key("optimizer.lr") && fields.contains_key("model.arch"));
        // Every reference leads somewhere.
        let mut open = vec![&schema];
        while let Some(node) = open.pop() {
            if let Some(reference) = node.get("$ref") {
                let pointer = reference.as_str().unwrap().trim_start_matches('#');
                assert!(schema.pointer(pointer).is_some(), "{pointer}");
            }
            match node {
                serde_json::Value::Object(map) => open.extend(map.values()),
                serde_json::Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
    }
    let schema = json_schema(File::Experiment);
    let keys: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    for (_, text) in library::experiments() {
        let (node, shown) = parse(text);
        assert_eq!(shown, "");
        let Content::Map(entries) = node.unwrap().content else {
            panic!()
        };
        assert!(entries.iter().all(|entry| keys.contains(&&entry.key)));
    }
}

/// `ABLATE_WRITE_DOCS=1 cargo test --release reference_is_current` writes it anew.
#[test]
fn the_reference_is_current() {
    const BEGIN: &str = "<!-- fields: generated from src/spec/fields.rs -->\n";
    const END: &str = "<!-- end of fields -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/yaml.md");
    let text = std::fs::read_to_string(path).unwrap();
    let start = text.find(BEGIN).unwrap() + BEGIN.len();
    let end = text.find(END).unwrap();
    let current = format!("{}\n{}{}", &text[..start], field_reference(), &text[end..]);
    if std::env::var_os("ABLATE_WRITE_DOCS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        current,
        "docs/yaml.md is out of date"
    );
}

/// The examples of the reference are experiments without problems.
#[test]
fn examples_of_the_reference_are_valid() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/yaml.md")).unwrap();
    let mut count = 0;
    for example in text.split("```yaml\n").skip(1) {
        let example = example.split("```").next().unwrap();
        if example.starts_with("# recipe") {
            let (node, shown) = parse(example);
            assert_eq!(shown, "");
            let mut reports: Vec<Report> = Vec::new();
            let Content::Map(entries) = node.unwrap().content else {
                panic!()
            };
            let own = entries
                .iter()
                .filter(|e| !matches!(e.key.as_str(), "inherits" | "description"));
            patch::settings(own, "recipe", &mut reports);
            assert_eq!(reports, []);
        } else if let Err(problems) = read("example.yaml", example, None, &Options::default()) {
            panic!("{example}\n{problems}");
        }
        count += 1;
    }
    assert!(count >= 6, "{count}");
    for design in axes::DESIGNS {
        assert!(text.contains(&format!("`{design}`")), "{design}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any text is read or refused; nothing panics, and every problem has a file.
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9:{}\\[\\],&*<'\"#|>?! \\-\\n\\t.]{0,80}") {
        if let Err(problems) = read("f.yaml", &text, None, &Options::default()) {
            prop_assert!(!problems.0.is_empty());
            prop_assert!(problems.0.iter().all(|problem| problem.to_string().starts_with("f.yaml")));
        }
    }

    /// Any numbers written as Rust writes them are read back as the same numbers.
    #[test]
    fn numbers_are_read_exactly(value in 0.0f64..1e8) {
        let (node, _) = parse(&format!("{value:?}"));
        let field = &FIELDS[fields::index("optimizer.lr")];
        prop_assert_eq!(coerce(field, &node.unwrap()).ok(), Some(Value::number(value)));
    }

    /// A misspelt path is answered with the path that was meant.
    #[test]
    fn misspelt_paths_are_recognised(field in 0..FIELDS.len(), at in 2usize..30) {
        let path = FIELDS[field].path;
        let mut letters: Vec<char> = path.chars().collect();
        let at = at % letters.len();
        prop_assume!(letters[at] != '.');
        letters.remove(at);
        let misspelt: String = letters.into_iter().collect();
        prop_assume!(fields::find(&misspelt).is_none());
        prop_assert_eq!(fields::nearest_path(&misspelt), Some(path));
    }

    /// Canonical texts are equal exactly where values are.
    #[test]
    fn canonical_texts_tell_values_apart(a in 0.0f64..10.0, b in 0.0f64..10.0) {
        let same = Value::number(a).canonical() == Value::number(b).canonical();
        prop_assert_eq!(same, a == b);
        prop_assert_ne!(Value::number(a.trunc()).canonical(), Value::Integer(a as i64).canonical());
    }
}
