//! What a metric's name means to a reader: words, unit, direction, decimals.

use crate::spec::command::{self, Better};

/// How a metric is spoken of.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Name in the store (`top1`), without the evaluation set.
    pub name: String,
    /// The shortest words (`top-1`).
    pub short: String,
    /// Words for a column's head (`top-1 (%)`).
    pub head: String,
    /// Words for a sentence or an axis (`top-1 accuracy (%)`).
    pub words: String,
    pub higher_is_better: bool,
    /// Decimals where nothing is known of the uncertainty.
    pub decimals: usize,
    /// Whether it is a share of the evaluation set's images, in per cent.
    pub is_accuracy: bool,
    /// `%`, or what a program says.
    pub unit: Option<String>,
}

impl Metric {
    /// The metric called `name`; an unknown one is shown by its name, larger is better unless it is
    /// a loss or an error.
    pub fn named(name: &str) -> Self {
        let metric = |short: &str, words: &str, higher_is_better, decimals, is_accuracy| Metric {
            name: name.to_owned(),
            short: short.to_owned(),
            head: if is_accuracy {
                format!("{short} (%)")
            } else {
                short.to_owned()
            },
            words: words.to_owned(),
            higher_is_better,
            decimals,
            is_accuracy,
            unit: is_accuracy.then(|| "%".to_owned()),
        };
        match name {
            "top1" => metric("top-1", "top-1 accuracy (%)", true, 1, true),
            "top5" => metric("top-5", "top-5 accuracy (%)", true, 1, true),
            "loss" => metric("loss", "loss", false, 3, false),
            "train_loss" => metric("training loss", "training loss", false, 3, false),
            "lr" => metric("learning rate", "learning rate", true, 5, false),
            other => {
                let lower = other
                    .split(|c: char| !c.is_alphanumeric())
                    .map(str::to_lowercase)
                    .any(|word| {
                        word.ends_with("loss") || matches!(&*word, "err" | "error" | "errors")
                    });
                metric(other, other, !lower, 3, false)
            }
        }
    }

    /// A metric of a program, by its own words.
    pub fn described(own: &command::Metric) -> Self {
        let mut metric = Metric::named(&own.name);
        if let Some(better) = own.better {
            metric.higher_is_better = better == Better::Higher;
        }
        if let Some(unit) = &own.unit {
            // The names that the trainer uses, too, have their own words: a program's mean what it says.
            metric = Metric {
                short: own.name.clone(),
                head: format!("{} ({unit})", own.name),
                words: format!("{} ({unit})", own.name),
                is_accuracy: false,
                decimals: if unit == "%" { 1 } else { metric.decimals },
                unit: Some(unit.clone()),
                ..metric
            };
        }
        metric
    }

    /// The unit of a difference of two values: of percentages it is percentage points.
    pub fn difference_unit(&self) -> Option<&str> {
        match self.unit.as_deref() {
            Some("%") => Some("percentage points"),
            unit => unit,
        }
    }

    /// A difference, as printed, with its unit.
    pub fn amount(&self, difference: &str) -> String {
        match self.difference_unit() {
            Some(unit) => format!("{difference} {unit}"),
            None => difference.to_owned(),
        }
    }

    /// Words for the axis or the head of a difference.
    pub fn difference_words(&self) -> String {
        match self.unit.as_deref() {
            Some("%") => format!(
                "Δ {} (percentage points)",
                self.words.trim_end_matches(" (%)")
            ),
            _ => format!("Δ {}", self.words),
        }
    }

    /// Whether `a` is better than `b`.
    pub fn better(&self, a: f64, b: f64) -> bool {
        if self.higher_is_better { a > b } else { a < b }
    }
}

/// Decimals that an uncertainty supports: two significant digits where it starts with 100 to 354, one
/// above that (the Particle Data Group's rule). `None` where it says nothing (zero, not finite).
pub fn decimals_for(uncertainty: f64) -> Option<usize> {
    if !(uncertainty.is_finite() && uncertainty > 0.0) {
        return None;
    }
    let exponent = uncertainty.log10().floor() as i32;
    let leading = (uncertainty / 10f64.powi(exponent) * 100.0).round();
    let digits = if leading < 355.0 {
        2
    } else if leading < 950.0 {
        1
    } else {
        // 0.0962 rounds to 0.10.
        2 - 1
    };
    Some((digits - 1 - exponent).clamp(0, 6) as usize)
}

/// `value` with `decimals`, with a real minus sign and never "-0".
pub fn number(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".into()
        } else {
            if value > 0.0 { "∞" } else { "−∞" }.into()
        };
    }
    let text = format!("{:.decimals$}", value.abs());
    let is_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if value < 0.0 && !is_zero {
        format!("−{text}")
    } else {
        text
    }
}

/// `value` with its sign (`+1.3`, `−0.4`, `0.0`).
pub fn signed(value: f64, decimals: usize) -> String {
    let text = number(value, decimals);
    let is_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if value > 0.0 && !is_zero {
        format!("+{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_own_words_count() {
        let own = |better, unit: Option<&str>| command::Metric {
            name: "perplexity".into(),
            better,
            unit: unit.map(str::to_owned),
        };
        assert!(Metric::described(&own(None, None)).higher_is_better);
        let lower = Metric::described(&own(Some(Better::Lower), Some("nats")));
        assert!(lower.better(1.0, 2.0));
        assert_eq!(
            (lower.head.as_str(), lower.short.as_str()),
            ("perplexity (nats)", "perplexity")
        );
        assert!(!Metric::named("val_loss").higher_is_better);
        assert_eq!(lower.amount("0.5"), "0.5 nats");
        let share = Metric::described(&own(None, Some("%")));
        assert_eq!(share.amount("0.5"), "0.5 percentage points");
        assert_eq!(share.difference_words(), "Δ perplexity (percentage points)");
        assert_eq!(share.decimals, 1);
        assert_eq!(Metric::named("loss").amount("0.5"), "0.5");
    }

    #[test]
    fn decimals_follow_the_uncertainty() {
        for (uncertainty, decimals) in [
            (0.58, 1),
            (0.13, 2),
            (0.354, 2),
            (0.36, 1),
            (0.0962, 2),
            (2.3, 1),
            (4.2, 0),
            (12.0, 0),
            (0.0012, 4),
        ] {
            assert_eq!(decimals_for(uncertainty), Some(decimals), "{uncertainty}");
        }
        assert_eq!(decimals_for(0.0), None);
        assert_eq!(decimals_for(f64::NAN), None);
    }

    #[test]
    fn numbers_have_real_minus_signs_and_no_negative_zero() {
        assert_eq!(number(-0.04, 1), "0.0");
        assert_eq!(number(-0.06, 1), "−0.1");
        assert_eq!(signed(1.25, 1), "+1.2");
        assert_eq!(signed(0.01, 1), "0.0");
        assert_eq!(signed(-3.0, 0), "−3");
        assert_eq!(number(f64::NAN, 1), "NaN");
    }
}
