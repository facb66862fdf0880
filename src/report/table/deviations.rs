//! What sets an experiment's setting apart from the published ones that its file references.

use super::cells::Cells;
use super::published::{matches, source};
use crate::report::data::Variant;
use crate::rundir::stage::StageSpec;
use crate::spec::published::{self, Published};

/// Precision of the trainings behind the published results that this program carries.
const PUBLISHED_PRECISION: &str = "float16 mixed";

/// A sentence for the top of a report that lays published numbers beside its own: whether the setting is the
/// published one. `None` where the file references none, so that nobody takes one for the other.
pub(in crate::report) fn setting(cells: &Cells<'_>) -> Option<String> {
    let mut deviations = Deviations::default();
    let mut any = false;
    for reference in &cells.data.experiment.report.reference {
        any = true;
        let row = reference.id.as_deref().and_then(published::result);
        for variant in &cells.variants {
            // Of a curve or a number of the file's own the setting isn't known.
            if matches(reference, variant) && row.is_some() {
                deviations.add(cells, variant, row, &source(cells, reference).set);
            }
        }
    }
    if !any {
        return None;
    }
    let fields: Vec<&str> = deviations.fields.iter().map(|(name, ..)| *name).collect();
    Some(match (fields.is_empty(), deviations.compared && !deviations.unknown) {
        (false, _) => format!(
            "It is not the published setting ({}), and its numbers are no replication of published ones.",
            fields.join(", ")
        ),
        (true, true) => "Data, model, epochs, resolutions and precision are those of the published numbers beside it, \
                         as far as these are published."
            .to_owned(),
        (true, false) => "What sets it apart from the setting of the published numbers beside it isn't known, so its \
                          numbers are no replication of these."
            .to_owned(),
    })
}

/// What sets our settings apart from the published ones: for each field our values and theirs.
#[derive(Default)]
pub(super) struct Deviations {
    fields: Vec<(&'static str, Vec<String>, Vec<String>)>,
    compared: bool,
    unknown: bool,
}

impl Deviations {
    pub fn add(
        &mut self,
        cells: &Cells<'_>,
        variant: &Variant<'_>,
        row: Option<&'static Published>,
        evaluated_on: &str,
    ) {
        let stages = variant.runs.first().map(|run| {
            let configs = &cells.data.background.configs;
            run.stages
                .iter()
                .map(|stage| configs.get(stage))
                .collect::<Option<Vec<_>>>()
        });
        let (Some(row), Some(Some(stages))) = (row, stages) else {
            self.unknown = true;
            return;
        };
        let (Some(first), Some(last)) = (stages.first(), stages.last()) else {
            self.unknown = true;
            return;
        };
        self.compared = true;
        let set = |name: &str| match name {
            "imagenet-1k" => "IN-1k".to_owned(),
            "imagenet-21k" => "IN-21k".to_owned(),
            other => other.to_owned(),
        };
        let mut trained: Vec<String> = stages
            .iter()
            .map(|stage| set(&stage.recipe.data.name))
            .collect();
        trained.dedup();
        self.compare("training data", trained.join("->"), row.train_set.clone());
        let tested = set(&last.recipe.data.name);
        // `IN-1k val` is the validation split of IN-1k.
        let alike = match row.evaluation_set() {
            Some(theirs) => theirs == evaluated_on,
            None => evaluated_on == "val" && row.dataset.starts_with(&tested),
        };
        if !alike {
            let ours = match evaluated_on {
                "val" => format!("{tested} val"),
                other => other.to_owned(),
            };
            self.compare("evaluation data", ours, row.dataset.clone());
        }
        self.compare("model", model(last), row.model.clone());
        let epochs: Vec<String> = stages
            .iter()
            .map(|stage| stage.recipe.train.epochs.to_string())
            .collect();
        self.compare("epochs", epochs.join("+"), row.epochs.clone());
        let pixels = |side: usize| side.to_string();
        self.compare(
            "training resolution",
            pixels(first.recipe.train.resolution),
            row.train_res.clone(),
        );
        self.compare(
            "test resolution",
            pixels(last.recipe.eval.resolution),
            row.test_res.clone(),
        );
        self.compare("precision", precision(last), PUBLISHED_PRECISION.to_owned());
    }

    /// What isn't published is not compared.
    fn compare(&mut self, field: &'static str, ours: String, theirs: String) {
        let unknown = matches!(&*theirs, "" | "-" | "various");
        if unknown || is_among(&ours, &theirs) {
            return;
        }
        let index = match self.fields.iter().position(|(name, ..)| *name == field) {
            Some(index) => index,
            None => {
                self.fields.push((field, Vec::new(), Vec::new()));
                self.fields.len() - 1
            }
        };
        let (_, known_ours, known_theirs) = &mut self.fields[index];
        for (list, value) in [(known_ours, ours), (known_theirs, theirs)] {
            if !list.contains(&value) {
                list.push(value);
            }
        }
    }

    pub fn words(&self) -> String {
        let list: Vec<String> = self
            .fields
            .iter()
            .map(|(field, ours, theirs)| {
                format!(
                    "{field} {} instead of {}",
                    ours.join(", "),
                    theirs.join(", ")
                )
            })
            .collect();
        let mut text = match (list.is_empty(), self.compared) {
            (false, _) => format!(
                "ours is not the published setting, so this is no replication: {}",
                list.join("; ")
            ),
            (true, true) => "ours has the published data, model, epochs, resolutions and precision, as far as they \
                             are published"
                .to_owned(),
            (true, false) => String::new(),
        };
        if self.unknown {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(
                "where a number's setting isn't known, nothing is said of deviations from it",
            );
        }
        text
    }
}

/// Whether `ours` is what `theirs` says, or one of several: `192 or 160`, `ViT-B/L/H`, `400 and 800 (+20)`, where what is
/// in brackets may follow.
fn is_among(ours: &str, theirs: &str) -> bool {
    let (list, more) = match theirs.split_once('(') {
        Some((list, more)) => (list.trim(), more.trim_end_matches(')')),
        None => (theirs, ""),
    };
    // Of `ViT-B/L/H` and `ViT-B/16` the kind is said once.
    let kind = list.find('-').map_or("", |end| &list[..=end]);
    let is = |value: &str| ours == value || ours.strip_suffix(more) == Some(value);
    let mut values = [" and ", " or ", " vs ", ", "]
        .iter()
        .fold(vec![list], |values, between| {
            values
                .into_iter()
                .flat_map(|value| value.split(between))
                .collect()
        })
        .into_iter();
    ours == theirs
        || values.any(|value| {
            let mut parts = value.trim().split('/');
            parts.next().is_some_and(is) || parts.any(|part| is(&format!("{kind}{part}")))
        })
}

/// The model's name in the field, or its sizes.
fn model(stage: &StageSpec) -> String {
    let model = &stage.recipe.model;
    let name = match (
        model.embed_dim,
        model.depth,
        model.patch_size,
        model.parallel_branches,
    ) {
        (192, 12, 16, 1) => "ViT-Ti",
        (384, 12, 16, 1) => "ViT-S",
        (512, 12, 16, 1) => "ViT-M",
        (768, 12, 16, 1) => "ViT-B",
        (1024, 24, 16, 1) => "ViT-L",
        (1280, 32, 14, 1) => "ViT-H",
        _ => {
            return format!(
                "ViT of width {}, depth {}, patches of {} px",
                model.embed_dim, model.depth, model.patch_size
            );
        }
    };
    name.to_owned()
}

/// The arithmetic of training, where the recipe names it; float32 otherwise.
fn precision(stage: &StageSpec) -> String {
    let recipe = serde_json::to_value(&stage.recipe).unwrap_or_default();
    match recipe
        .pointer("/train/precision")
        .and_then(|name| name.as_str())
    {
        Some(name) => name.to_owned(),
        None => "float32".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_among;

    #[test]
    fn published_words_may_stand_for_several_values() {
        for (ours, theirs) in [
            ("192", "192 or 160"),
            ("160", "192 or 160"),
            ("400", "400 and 800 (+20)"),
            ("800+20", "400 and 800 (+20)"),
            ("400+20", "400(+20)"),
            ("800", "400 vs 800"),
            ("ViT-L", "ViT-B/L/H"),
            ("ViT-B", "ViT-B/16"),
            ("IN-21k->IN-1k", "IN-21k->IN-1k"),
            ("800 + 384 ft", "800 + 384 ft"),
        ] {
            assert!(is_among(ours, theirs), "{ours} of {theirs}");
        }
        for (ours, theirs) in [
            ("224", "192 or 160"),
            ("19", "192 or 160"),
            ("400+30", "400 and 800 (+20)"),
            ("800+20", "800"),
            ("ViT-S", "ViT-B/L/H"),
            ("ViT-H", "ViT-H-52"),
            ("IN-1k", "IN-21k->IN-1k"),
        ] {
            assert!(!is_among(ours, theirs), "{ours} of {theirs}");
        }
    }
}
