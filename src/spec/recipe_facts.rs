//! The built-in recipes against what is published about them (`facts/recipes.yaml`), field by field.
//!
//! Every key of the facts is either compared or listed as prose: a fact that nobody looks at fails.

use super::fields;
use super::library::Library;
use super::patch::Target;
use super::problem::{Problems, Sources};
use super::resolved::{defaults, to_recipe};
use super::value::Value;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// Recipe of the facts, model, recipe of ours. An empty model: the facts give one set of values.
const OURS: &[(&str, &str, &str)] = &[
    ("in1k_800", "ViT-S", "deit3_800"),
    ("in1k_800", "ViT-B", "deit3_800_vit_b"),
    ("in1k_800", "ViT-L", "deit3_800_vit_l"),
    ("in1k_800", "ViT-H", "deit3_800_vit_h"),
    ("in1k_400", "ViT-S", "deit3_400"),
    ("in1k_400", "ViT-B", "deit3_400_vit_b"),
    ("in1k_400", "ViT-L", "deit3_400_vit_l"),
    ("in1k_400", "ViT-H", "deit3_400_vit_h"),
    ("fixres_224", "ViT-B", "deit3_fixres"),
    ("fixres_224", "ViT-L", "deit3_fixres_vit_l"),
    ("fixres_224", "ViT-H", "deit3_fixres_vit_h"),
    ("finetune_384_in1k", "ViT-S", "deit3_finetune_384_vit_s"),
    ("finetune_384_in1k", "ViT-B", "deit3_finetune_384"),
    ("finetune_384_in1k", "ViT-L", "deit3_finetune_384_vit_l"),
    ("in21k_pretrain_240", "ViT-S", "deit3_in21k_240_vit_s"),
    ("in21k_pretrain_240", "ViT-B", "deit3_in21k_240"),
    ("in21k_pretrain_240", "ViT-L", "deit3_in21k_240_vit_l"),
    ("in21k_pretrain_90", "ViT-S", "deit3_in21k_90_vit_s"),
    ("in21k_pretrain_90", "ViT-B", "deit3_in21k_90"),
    ("in21k_pretrain_90", "ViT-L", "deit3_in21k_90_vit_l"),
    ("in21k_pretrain_90", "ViT-H", "deit3_in21k_90_vit_h"),
    (
        "finetune_in1k_after_21k",
        "ViT-S",
        "deit3_in21k_finetune_vit_s",
    ),
    ("finetune_in1k_after_21k", "ViT-B", "deit3_in21k_finetune"),
    (
        "finetune_in1k_after_21k",
        "ViT-L",
        "deit3_in21k_finetune_vit_l",
    ),
    (
        "finetune_in1k_after_21k",
        "ViT-H",
        "deit3_in21k_finetune_vit_h",
    ),
    ("finetune_384_after_21k", "", "deit3_in21k_finetune_384"),
    ("deit2021_baseline", "", "deit_300"),
    ("vit_tiny_third_party", "400", "deit3_tiny_400"),
    ("vit_tiny_third_party", "800", "deit3_tiny_800"),
    ("transfer_finetune", "cifar_cars", "deit_transfer"),
    ("transfer_finetune", "inat", "deit_transfer_inat"),
];

/// Models of the facts without a recipe: nothing about their training is published.
const UNPUBLISHED: &[(&str, &str)] = &[("in1k_800", "ViT-M"), ("in1k_800", "ViT-Ti")];

/// A recipe of the facts that the built-in trainer can't follow: segmentation. Its values are parameters, for a program.
const OTHER_TASK: &str = "ade20k_upernet";

/// Keys that say where values come from or what no field holds.
const PROSE: &[&str] = &[
    "purpose",
    "source",
    "confidence",
    "note",
    "lr_note",
    "lr_conflict",
    "lr_alternative",
    "differs_in_reproduction",
    "scaling_rule",
    "jax_rerun_drop_path",
    "start_checkpoint",
    "second_stage",
    "drop_path_src",
    "inherits",
    "head",
    "model_mode",
    "steps_per_epoch",
    "precision",
    "models",
    "deit2021_values",
];

/// Keys of `common` that are the trainer's semantics, or that no field holds.
const SEMANTICS: &[&str] = &[
    "seed",
    "precision",
    "dropout",
    "attn_dropout",
    "normalize",
    "nonfinite_loss",
];

fn facts() -> Json {
    serde_yaml::from_str(include_str!("facts/recipes.yaml")).unwrap()
}

/// A recipe of the facts, laid over the one it inherits.
fn fact(facts: &Json, name: &str) -> Map<String, Json> {
    let own = facts["recipes"][name].as_object().unwrap();
    let mut whole = match own.get("inherits") {
        Some(parent) => fact(facts, parent.as_str().unwrap()),
        None => Map::new(),
    };
    whole.extend(own.clone());
    whole
}

fn whole(name: &str) -> (BTreeMap<String, Json>, String) {
    let mut sources = Sources::default();
    let mut reports = Vec::new();
    let mut library = Library::new(None);
    let settings = library.recipe(name, Default::default(), &mut sources, &mut reports);
    let settings = settings.unwrap_or_else(|| panic!("{}", Problems::new(&sources, &reports)));
    let mut values = defaults();
    for setting in settings {
        let field = setting.field().unwrap();
        values[field] = Some(setting.value);
    }
    let resolution = values[fields::index("train.resolution")].clone();
    values[fields::index("eval.resolution")].get_or_insert(Value::Null);
    if values[fields::index("eval.resolution")] == Some(Value::Null) {
        values[fields::index("eval.resolution")] = resolution;
    }
    let values: Vec<Value> = values.into_iter().map(Option::unwrap).collect();
    let recipe = serde_json::to_value(to_recipe(values.iter()).unwrap()).unwrap();
    let mut flat = BTreeMap::new();
    for (section, fields) in recipe.as_object().unwrap() {
        for (key, value) in fields.as_object().unwrap() {
            flat.insert(format!("{section}.{key}"), value.clone());
        }
    }
    let path = format!(
        "{}/experiments/recipes/{name}.yaml",
        env!("CARGO_MANIFEST_DIR")
    );
    (flat, std::fs::read_to_string(path).unwrap())
}

/// What the facts say, by field. Later facts win.
struct Expected<'a> {
    facts: &'a Json,
    fields: BTreeMap<&'static str, Json>,
}

impl Expected<'_> {
    fn set(&mut self, path: &'static str, value: Json) {
        fields::find(path).unwrap();
        self.fields.insert(path, value);
    }

    fn read_common(&mut self) {
        for (key, value) in self.facts["common"].as_object().unwrap() {
            match key.as_str() {
                "schedule" => self.read_schedule(value),
                "stochastic_depth_rule" => self.set("model.drop_path_rule", value.clone()),
                "layerscale_init" => self.set("model.layer_scale", value.clone()),
                "model_ema" => {
                    self.set("ema.decay", value["decay"].clone());
                    self.set("ema.eval", value["used_for_eval"].clone());
                }
                "random_erasing_prob" => self.set("augment.random_erasing", value.clone()),
                "hflip_prob" => self.set("augment.hflip", value.clone()),
                "eval" => self.set("eval.crop_ratio", value["crop_ratio"].clone()),
                "grad_accumulation" => self.set("train.accumulation", value.clone()),
                key => assert!(
                    SEMANTICS.contains(&key) || PROSE.contains(&key),
                    "common.{key}"
                ),
            }
        }
        self.set("model.mlp_ratio", json!(4));
        self.set("model.pos_embed_class", json!(false));
    }

    fn read_schedule(&mut self, schedule: &Json) {
        assert_eq!(
            (&schedule["type"], &schedule["granularity"]),
            (&json!("cosine"), &json!("epoch"))
        );
        self.set("schedule.name", json!("cosine"));
        for (key, path) in [
            ("min_lr", "schedule.min_lr"),
            ("warmup_epochs", "schedule.warmup_epochs"),
            ("warmup_lr", "schedule.warmup_lr"),
        ] {
            self.set(path, schedule[key].clone());
        }
    }

    fn read_optimizer(&mut self, name: &Json) {
        self.set("optimizer.name", name.clone());
        let Some(rule) = self.facts["optimizers"].get(name.as_str().unwrap()) else {
            assert_eq!(name, "sgd");
            return;
        };
        for (key, value) in rule.as_object().unwrap().clone() {
            match key.as_str() {
                "betas" => self.set("optimizer.betas", value),
                "eps" => self.set("optimizer.eps", value),
                "max_grad_norm" | "grad_clip" => self.set("optimizer.max_grad_norm", value),
                "nvlamb" => self.set("optimizer.always_adapt", value),
                // The trainer's semantics, held by its own tests.
                "implementation"
                | "bias_correction"
                | "grad_averaging"
                | "no_decay"
                | "source"
                | "decoupled_weight_decay_term" => {}
                key => panic!("optimizers.{name}.{key}"),
            }
        }
        self.set("optimizer.trust_clip", json!(false));
    }

    fn read_augmentation(&mut self, name: &Json) {
        let rules = self.facts["augmentations"][name.as_str().unwrap()]
            .as_object()
            .unwrap();
        let three_augment = name.as_str().unwrap().starts_with("three_augment");
        for (key, value) in rules.clone() {
            match key.as_str() {
                "rrc" => {
                    self.set("augment.crop", json!("rrc"));
                    self.set("augment.rrc_scale", value["scale"].clone());
                    self.set("augment.rrc_ratio", value["ratio"].clone());
                }
                "src" => {
                    self.set("augment.crop", json!("src"));
                    self.set("augment.src_padding", value["pad"].clone());
                }
                "color_jitter" if value.is_null() => self.set("augment.color_jitter", json!(0)),
                "color_jitter" => {
                    let strength = value["brightness"].clone();
                    assert!(value["contrast"] == strength && value["saturation"] == strength);
                    self.set("augment.color_jitter", strength);
                }
                "randaugment" if three_augment => {
                    assert!(value.is_null());
                    self.set("augment.policy", json!("three_augment"));
                    let ops = json!(["grayscale", "solarize", "gaussian_blur"]);
                    self.set("augment.three_augment_ops", ops);
                }
                "randaugment" => self.set("augment.policy", value),
                "order" | "source" => {}
                key => panic!("augmentations.{name}.{key}"),
            }
        }
    }

    fn read(&mut self, facts: &Map<String, Json>, model: &str) {
        for (key, value) in facts {
            let value = value.clone();
            match key.as_str() {
                // No value published.
                "lr" | "drop_path" | "train_res" if value.is_null() => {}
                "dataset" => self.set("data.name", value["train"].clone()),
                "epochs" if value.is_array() => {
                    let epochs: u64 = model.parse().unwrap();
                    assert!(value.as_array().unwrap().contains(&json!(epochs)));
                    self.set("train.epochs", json!(epochs));
                }
                "epochs" => self.set("train.epochs", value),
                "global_batch" => self.set("train.batch_size", value),
                "optimizer" => self.read_optimizer(&value),
                "lr" => self.set("optimizer.lr", value),
                "min_lr" => self.set("schedule.min_lr", value),
                "weight_decay" if value.is_object() => {
                    self.set("optimizer.weight_decay", value["paper_table1"].clone());
                }
                "weight_decay" => self.set("optimizer.weight_decay", value),
                "loss" => {
                    let name = match value["type"].as_str().unwrap() {
                        "soft_target_ce" => "ce",
                        other => other,
                    };
                    self.set("loss.name", json!(name));
                }
                "label_smoothing" => self.set("loss.label_smoothing", value),
                "mixup" => {
                    for (key, value) in value.as_object().unwrap() {
                        match key.as_str() {
                            "mixup_alpha" => self.set("mix.mixup_alpha", value.clone()),
                            "cutmix_alpha" => self.set("mix.cutmix_alpha", value.clone()),
                            "prob" => self.set("mix.prob", value.clone()),
                            "switch_prob" => self.set("mix.switch_prob", value.clone()),
                            "mode" => assert_eq!(value, "batch"),
                            "effect" => {}
                            key => panic!("mixup.{key}"),
                        }
                    }
                }
                "repeated_augmentation" => {
                    let off = value["enabled"] == json!(false);
                    let repeats = if off {
                        json!(1)
                    } else {
                        value["repeats"].clone()
                    };
                    self.set("train.repeated_augmentation", repeats);
                }
                "augmentation" => self.read_augmentation(&value),
                "random_erasing" if value.is_number() => self.set("augment.random_erasing", value),
                "random_erasing" => self.set("augment.random_erasing", value["prob"].clone()),
                "drop_path" if value.is_object() => {
                    assert!(value["rule"].as_str().unwrap().starts_with("linear"));
                    self.set("model.drop_path", value["rate"].clone());
                    self.set("model.drop_path_rule", json!("linear"));
                }
                "drop_path" => self.set("model.drop_path", value),
                "layerscale" => {
                    assert_eq!(value, "none");
                    self.set("model.layer_scale", Json::Null);
                }
                "layerscale_init" => self.set("model.layer_scale", value),
                "pos_embed" => {
                    assert_eq!(value, "includes the class token");
                    self.set("model.pos_embed_class", json!(true));
                }
                "res" => self.set("train.resolution", value[0].clone()),
                "train_res" => self.set("train.resolution", value),
                "test_res" => self.set("eval.resolution", value),
                "eval_crop_ratio" => self.set("eval.crop_ratio", value),
                "gpus" => self.set("mix.groups", value),
                "batch_per_gpu" => {
                    let gpus = facts["gpus"].as_u64().unwrap();
                    let batch = json!(gpus * value.as_u64().unwrap());
                    assert_eq!(self.fields["train.batch_size"], batch, "{model}");
                }
                key => assert!(PROSE.contains(&key), "{key}"),
            }
        }
    }

    /// Width and depth of the model behind the name of the facts.
    fn read_model(&mut self, model: &str) {
        let (patch, dim, depth, heads) = match model {
            "ViT-S" => (16, 384, 12, 6),
            "ViT-B" => (16, 768, 12, 12),
            "ViT-L" => (16, 1024, 24, 16),
            "ViT-H" => (14, 1280, 32, 16),
            "400" | "800" => (16, 192, 12, 3),
            _ => return,
        };
        self.set("model.patch_size", json!(patch));
        self.set("model.embed_dim", json!(dim));
        self.set("model.depth", json!(depth));
        self.set("model.num_heads", json!(heads));
    }
}

fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => match (a.as_f64(), b.as_f64()) {
            // The facts round thirds.
            (Some(a), Some(b)) => (a - b).abs() <= 1e-7 * b.abs(),
            _ => a == b,
        },
    }
}

#[test]
fn built_in_recipes_are_the_published_ones() {
    let facts = facts();
    let mut compared = 0;
    for (name, model, ours) in OURS {
        let fact = fact(&facts, name);
        let mut expected = Expected {
            facts: &facts,
            fields: BTreeMap::new(),
        };
        // What every run of DeiT shares; others say all that is known themselves.
        if !matches!(
            *name,
            "vit_tiny_third_party" | "transfer_finetune" | "finetune_384_after_21k"
        ) {
            expected.read_common();
        }
        expected.read(&fact, model);
        for values in ["models", "deit2021_values"] {
            if let Some(own) = fact.get(values).and_then(|values| values.get(model)) {
                expected.read(own.as_object().unwrap(), model);
            }
        }
        expected.read_model(model);
        let (recipe, _) = whole(ours);
        for (path, value) in &expected.fields {
            assert!(
                same(&recipe[*path], value),
                "{ours}: {path} is {}, not {value}",
                recipe[*path]
            );
            compared += 1;
        }
    }
    println!("{compared} fields of {} recipes", OURS.len());
    assert!(compared > 900, "{compared}");
}

#[test]
fn every_published_recipe_and_model_has_a_file() {
    let facts = facts();
    for (name, recipe) in facts["recipes"].as_object().unwrap() {
        let ours: Vec<&str> = OURS
            .iter()
            .filter(|(known, ..)| known == name)
            .map(|(_, model, _)| *model)
            .collect();
        assert_eq!(ours.is_empty(), name == OTHER_TASK, "{name}");
        let models = recipe.get("models").or(recipe.get("deit2021_values"));
        for (model, values) in models.and_then(Json::as_object).into_iter().flatten() {
            let unpublished = UNPUBLISHED.contains(&(name, model));
            assert_eq!(
                ours.contains(&model.as_str()),
                !unpublished,
                "{name} {model}"
            );
            assert!(!unpublished || values["lr"].is_null(), "{name} {model}");
        }
    }
    let own = ["quick", "quick_finetune", OTHER_TASK];
    let known = super::library::recipe_names().filter(|name| !own.contains(name));
    assert_eq!(known.count(), OURS.len());
}

/// The parameters of the recipe for a program, against the facts: every value that is published, and no other number.
#[test]
fn the_recipe_for_segmentation_has_the_published_values() {
    let mut sources = Sources::default();
    let mut reports = Vec::new();
    let position = Default::default();
    let settings = Library::new(None).recipe(OTHER_TASK, position, &mut sources, &mut reports);
    let settings = settings.unwrap_or_else(|| panic!("{}", Problems::new(&sources, &reports)));
    let mut ours: BTreeMap<String, Json> = settings
        .into_iter()
        .map(|setting| match setting.target {
            Target::Param(name) => (name, setting.value.to_json()),
            Target::Field(field) => panic!("{}", fields::FIELDS[field].path),
        })
        .collect();
    let facts = facts();
    for (key, value) in fact(&facts, OTHER_TASK) {
        let parts: Vec<(String, Json)> = match value.as_object() {
            Some(map) => map
                .iter()
                .map(|(name, value)| (format!("{key}.{name}"), value.clone()))
                .collect(),
            None => vec![(key, value)],
        };
        for (key, value) in parts {
            // Prose.
            if matches!(
                key.as_str(),
                "purpose" | "source" | "confidence" | "applies"
            ) {
                continue;
            }
            let own = ours
                .remove(&key)
                .unwrap_or_else(|| panic!("{key} is missing"));
            if key == "backbone_pretrain" {
                assert!(
                    value.as_str().unwrap().contains("at 224")
                        && own.as_str().unwrap().contains("224")
                );
                continue;
            }
            assert!(same(&own, &value), "{key} is {own}, not {value}");
        }
    }
    assert_eq!(ours.into_keys().collect::<Vec<_>>(), ["dataset", "head"]);
    let text = include_str!("../../experiments/recipes/ade20k_upernet.yaml");
    assert!(
        text.contains("never released")
            && text.contains("doesn't segment")
            && text.contains("XCIT")
    );
    let docs = include_str!("../../docs/recipes.md");
    assert!(docs.contains("recipes/ade20k_upernet.yaml"));
}

/// Steps of an epoch follow from the size of the training set and the batch.
#[test]
fn steps_of_an_epoch() {
    let facts = facts();
    let images = facts["recipes"]["in1k_800"]["dataset"]["train_images"]
        .as_u64()
        .unwrap();
    for (name, _, ours) in OURS {
        let Some(steps) = facts["recipes"][*name]["steps_per_epoch"]["value"].as_u64() else {
            continue;
        };
        let batch = whole(ours).0["train.batch_size"].as_u64().unwrap();
        assert_eq!(images / batch, steps, "{ours}");
    }
}

/// What is not published says so, where sources conflict a comment says so, and the table of
/// `docs/recipes.md` names every recipe.
#[test]
fn conflicts_and_gaps_are_written_down() {
    let facts = facts();
    for name in [
        "deit3_in21k_finetune_384",
        "deit3_tiny_400",
        "deit3_tiny_800",
    ] {
        let text = whole(name).1;
        assert!(
            text.contains("NOT PUBLISHED") || text.contains("THIRD PARTY"),
            "{name}"
        );
    }
    assert!(
        facts["recipes"]["finetune_384_after_21k"]["source"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    for name in [
        "deit3_800_vit_l",
        "deit3_800_vit_h",
        "deit3_400",
        "deit3_in21k_240",
        "deit3_in21k_90",
    ] {
        assert!(whole(name).1.contains("CONFLICT: "), "{name}");
    }
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for (name, _, ours) in OURS {
        assert!(docs.contains(&format!("`{ours}`")), "{ours}");
        assert!(docs.contains(&format!("`{name}`")), "{name}");
    }
    assert!(docs.contains(&format!("`{OTHER_TASK}`")));
}
