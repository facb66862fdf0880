//! The library: recipes and experiments, beside the user's file or built into the program.

use super::document::{self, Content};
use super::patch::{self, Setting};
use super::problem::{Position, Report, Sources, suggestion};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../experiments/", $name, ".yaml")))),*]
    };
}

/// Recipes that come with the program: path below `experiments/` without `.yaml`, and text.
const RECIPES: &[(&str, &str)] = embed![
    "recipes/deit3_800",
    "recipes/deit3_800_vit_b",
    "recipes/deit3_800_vit_l",
    "recipes/deit3_800_vit_h",
    "recipes/deit3_400",
    "recipes/deit3_400_vit_b",
    "recipes/deit3_400_vit_l",
    "recipes/deit3_400_vit_h",
    "recipes/deit3_fixres",
    "recipes/deit3_fixres_vit_l",
    "recipes/deit3_fixres_vit_h",
    "recipes/deit3_finetune_384",
    "recipes/deit3_finetune_384_vit_s",
    "recipes/deit3_finetune_384_vit_l",
    "recipes/deit3_in21k_240",
    "recipes/deit3_in21k_240_vit_s",
    "recipes/deit3_in21k_240_vit_l",
    "recipes/deit3_in21k_90",
    "recipes/deit3_in21k_90_vit_s",
    "recipes/deit3_in21k_90_vit_l",
    "recipes/deit3_in21k_90_vit_h",
    "recipes/deit3_in21k_finetune",
    "recipes/deit3_in21k_finetune_vit_s",
    "recipes/deit3_in21k_finetune_vit_l",
    "recipes/deit3_in21k_finetune_vit_h",
    "recipes/deit3_in21k_finetune_384",
    "recipes/deit3_tiny_400",
    "recipes/deit3_tiny_800",
    "recipes/deit_300",
    "recipes/deit_transfer",
    "recipes/deit_transfer_inat",
    "recipes/ade20k_upernet",
    "recipes/quick",
    "recipes/quick_finetune",
];

/// Experiments that come with the program.
const EXPERIMENTS: &[(&str, &str)] =
    embed!["loss", "augmentation", "crop", "epochs", "fixres", "in21k"];

/// Names of the recipes that come with the program.
pub fn recipe_names() -> impl Iterator<Item = &'static str> + Clone {
    RECIPES
        .iter()
        .map(|(name, _)| name.trim_start_matches("recipes/"))
}

/// The recipes that come with the program, in words; those that are another one for a larger or smaller
/// model (`deit3_800_vit_b`) are left to the imagination.
pub fn recipe_overview() -> String {
    let names: Vec<&str> = recipe_names()
        .filter(|name| !name.contains("_vit_"))
        .collect();
    format!(
        "built-in recipes: {}; some for other models, such as `deit3_800_vit_b`",
        names.join(", ")
    )
}

/// Names and texts of the experiments that come with the program.
pub fn experiments() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    EXPERIMENTS.iter().copied()
}

/// The experiment file at `path`. A name stands for a file, too: `loss` is `loss.yaml` or
/// `experiments/loss.yaml` where there is one, else the built-in experiment. Returns the name to
/// show, the text and the folder that recipes are looked for in.
pub fn open_experiment(path: &Path) -> Result<(String, String, Option<PathBuf>), String> {
    let mut candidates = vec![path.to_path_buf()];
    if path.extension().is_none() {
        let file = path.with_extension("yaml");
        candidates.push(file.clone());
        if file.is_relative() {
            candidates.push(Path::new("experiments").join(file));
        }
    }
    if let Some(file) = candidates.iter().find(|candidate| candidate.is_file()) {
        let text = read_text(file)?;
        let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
        return Ok((file.display().to_string(), text, Some(folder)));
    }
    let shown = path.display().to_string();
    let name = shown.strip_suffix(".yaml").unwrap_or(&shown);
    let name = name.strip_prefix("./").unwrap_or(name);
    let name = name.strip_prefix("experiments/").unwrap_or(name);
    if let Some((name, text)) = experiments().find(|(known, _)| *known == name) {
        return Ok((format!("experiments/{name}.yaml"), text.to_owned(), None));
    }
    let names: Vec<&str> = experiments().map(|(name, _)| name).collect();
    let what = if path.exists() {
        "not a file"
    } else {
        "no such file"
    };
    Err(match suggestion(name, names) {
        Some(hint) => {
            let hint = hint.strip_prefix("known: ").unwrap_or(&hint);
            format!("{what}; built-in experiments: {hint}")
        }
        None => what.to_owned(),
    })
}

fn read_text(file: &Path) -> Result<String, String> {
    let length = std::fs::metadata(file)
        .map_err(|error| format!("can't read it: {error}"))?
        .len();
    if length > document::MAX_BYTES as u64 {
        return Err(format!(
            "the file has {length} bytes; at most {} are read",
            document::MAX_BYTES
        ));
    }
    let bytes = std::fs::read(file).map_err(|error| format!("can't read it: {error}"))?;
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 text (byte {})", error.utf8_error().valid_up_to()))
}

/// Recipes that were looked up so far.
#[derive(Debug)]
pub struct Library {
    /// Folder of the experiment file; recipes are looked for in its `recipes/`.
    folder: Option<PathBuf>,
    /// `None`: it has problems, which were reported.
    known: HashMap<String, Option<Vec<Setting>>>,
}

impl Library {
    /// A library for experiments in `folder` (`None`: only what is built in).
    pub fn new(folder: Option<PathBuf>) -> Self {
        Library {
            folder,
            known: HashMap::new(),
        }
    }

    /// Folder of the experiment file; `None`: it is built in.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// All settings of recipe `name`, those of the recipes it inherits first. `position` is where it
    /// is named.
    pub fn recipe(
        &mut self,
        name: &str,
        position: Position,
        sources: &mut Sources,
        reports: &mut Vec<Report>,
    ) -> Option<Vec<Setting>> {
        self.look_up(name, position, &mut Vec::new(), sources, reports)
    }

    fn look_up(
        &mut self,
        name: &str,
        position: Position,
        chain: &mut Vec<String>,
        sources: &mut Sources,
        reports: &mut Vec<Report>,
    ) -> Option<Vec<Setting>> {
        if let Some(settings) = self.known.get(name) {
            return settings.clone();
        }
        if let Some(start) = chain.iter().position(|earlier| earlier == name) {
            let mut cycle = chain[start..].to_vec();
            cycle.push(name.to_owned());
            reports.push(Report::error(
                position,
                format!("recipes inherit in a circle: {}", cycle.join(" -> ")),
            ));
            return None;
        }
        if chain.len() >= 32 {
            reports.push(Report::error(
                position,
                "more than 32 recipes inherit from each other",
            ));
            return None;
        }
        let source = match self.open(name) {
            Ok((shown, text)) => sources.add(shown, text),
            Err(report) => {
                reports.push(Report { position, ..report });
                return None;
            }
        };
        chain.push(name.to_owned());
        let settings = self.read(source, chain, sources, reports);
        chain.pop();
        self.known.insert(name.to_owned(), settings.clone());
        settings
    }

    fn read(
        &mut self,
        source: u32,
        chain: &mut Vec<String>,
        sources: &mut Sources,
        reports: &mut Vec<Report>,
    ) -> Option<Vec<Setting>> {
        let root = document::parse(sources, source, reports)?;
        let entries = patch::map(&root, "a recipe", reports)?;
        let mut settings = Vec::new();
        let mut whole = true;
        for entry in entries {
            match (entry.key.as_str(), entry.value.text()) {
                ("inherits", Some(parent)) => {
                    match self.look_up(parent, entry.value.position, chain, sources, reports) {
                        Some(inherited) => settings.extend(inherited),
                        None => whole = false,
                    }
                }
                ("description", Some(_)) => {}
                ("inherits" | "description", None) => {
                    let message = format!(
                        "`{}` expects a string, not {}",
                        entry.key,
                        entry.value.noun()
                    );
                    reports.push(Report::error(entry.value.position, message));
                }
                _ => {}
            }
        }
        let own = |entry: &&document::Entry| {
            !matches!(entry.key.as_str(), "inherits" | "description")
                && !entry.key.starts_with("x-")
        };
        let before = reports.len();
        settings.extend(patch::settings(
            entries.iter().filter(own),
            "recipe",
            reports,
        ));
        if root.content == Content::Null {
            reports.push(Report::error(root.position, "the recipe is empty"));
        }
        (whole && reports.len() == before).then_some(settings)
    }

    fn open(&self, name: &str) -> Result<(String, String), Report> {
        let error = |message: String| Report::error(Position::default(), message);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || !name.chars().all(plain) || name.starts_with('.') {
            return Err(error(format!("`{name}` is no name of a recipe"))
                .hint("write the name without folder and `.yaml`; recipes lie in `recipes/` beside the experiment"));
        }
        if let Some(folder) = &self.folder {
            let path = folder.join("recipes").join(format!("{name}.yaml"));
            match path.is_file().then(|| read_text(&path)) {
                None => {}
                Some(Ok(text)) => return Ok((path.display().to_string(), text)),
                Some(Err(failure)) => {
                    return Err(error(format!("{}: {failure}", path.display())));
                }
            }
        }
        if let Some((_, text)) = RECIPES
            .iter()
            .find(|(known, _)| known.trim_start_matches("recipes/") == name)
        {
            return Ok((
                format!("recipes/{name}.yaml (built in)"),
                (*text).to_owned(),
            ));
        }
        let mut names: Vec<String> = recipe_names().map(str::to_owned).collect();
        names.extend(self.beside());
        names.sort();
        names.dedup();
        let report = error(format!("unknown recipe `{name}`"));
        let hint = suggestion(name, names.iter().map(String::as_str));
        Err(report.hint(hint.unwrap_or_else(recipe_overview)))
    }

    /// Names of the recipes in the user's folder.
    fn beside(&self) -> Vec<String> {
        let Some(folder) = &self.folder else {
            return Vec::new();
        };
        let Ok(entries) = std::fs::read_dir(folder.join("recipes")) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".yaml")
                    .map(str::to_owned)
            })
            .take(1000)
            .collect()
    }
}
