//! From values to pixels, and the ticks between.

use crate::report::metric;

/// A linear or logarithmic mapping of values onto pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

/// A tick: its value and its label.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    pub value: f64,
    pub label: String,
}

impl Scale {
    /// Values from `low` to `high`; widened where they are equal.
    pub fn linear(low: f64, high: f64) -> Self {
        let (low, high) = if high > low {
            (low, high)
        } else {
            let half = if low == 0.0 { 0.5 } else { low.abs() * 0.05 };
            (low - half, low + half)
        };
        Scale {
            low,
            high,
            log: false,
            from: 0.0,
            to: 1.0,
        }
    }

    /// Positive values from `low` to `high` on a logarithmic scale.
    pub fn log(low: f64, high: f64) -> Self {
        let (low, high) = if high > low {
            (low, high)
        } else {
            (low * 0.8, low * 1.25)
        };
        Scale {
            low,
            high,
            log: true,
            from: 0.0,
            to: 1.0,
        }
    }

    /// The same values over the pixels `from` to `to` (`to` may be the smaller).
    pub fn over(self, from: f64, to: f64) -> Self {
        Scale { from, to, ..self }
    }

    /// The same with `share` of its length added at both ends.
    pub fn padded(self, share: f64) -> Self {
        if self.log {
            let factor = (self.high / self.low).powf(share);
            Scale {
                low: self.low / factor,
                high: self.high * factor,
                ..self
            }
        } else {
            let extra = (self.high - self.low) * share;
            Scale {
                low: self.low - extra,
                high: self.high + extra,
                ..self
            }
        }
    }

    /// Pixel of `value`.
    pub fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    /// `value` within the range.
    pub fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }

    /// Whether `value` is within the range, give or take rounding.
    pub fn shows(&self, value: f64) -> bool {
        let slack = (self.high - self.low) * 1e-9;
        self.low - slack <= value && value <= self.high + slack
    }

    /// Up to about `count` ticks at round values; whole ones if `whole`.
    pub fn ticks(&self, count: usize, whole: bool) -> Vec<Tick> {
        if self.log
            && let Some(ticks) = self.log_ticks(count)
        {
            return ticks;
        }
        let span = self.high - self.low;
        let mut step = nice(span / count.max(1) as f64);
        if whole {
            step = if (step - 2.5).abs() < 1e-9 {
                5.0
            } else {
                step.max(1.0)
            };
        }
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        // A step of 2.5 has one decimal more than its power of ten.
        let decimals = if (step * 10f64.powi(decimals as i32)).fract() > 1e-6 {
            decimals + 1
        } else {
            decimals
        };
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last)
            .map(|index| {
                let value = index as f64 * step;
                Tick {
                    value,
                    label: metric::number(value, decimals),
                }
            })
            .collect()
    }
}

impl Scale {
    /// Ticks at 1, 2 and 5 times powers of ten, or fewer of them where that is too many; `None` where
    /// fewer than two fit, so that the range is better divided evenly.
    fn log_ticks(&self, count: usize) -> Option<Vec<Tick>> {
        let (first, last) = (
            self.low.log10().floor() as i32,
            self.high.log10().ceil() as i32,
        );
        let at = |factors: &[f64], every: usize| -> Vec<Tick> {
            (first..=last)
                .step_by(every)
                .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
                .filter(|value| self.shows(*value))
                .map(|value| Tick {
                    value,
                    label: metric::number(value, (-value.log10().floor()).max(0.0) as usize),
                })
                .collect()
        };
        let mut ticks = at(&[1.0, 2.0, 5.0], 1);
        let mut every = 1;
        while ticks.len() > count.max(2) && every < 64 {
            ticks = at(&[1.0], every);
            every += 1;
        }
        (ticks.len() >= 2).then_some(ticks)
    }
}

/// The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is at least `step`.
fn nice(step: f64) -> f64 {
    if !(step.is_finite() && step > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|nice| *nice >= step * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// Smallest and largest of finite values; `None` if there are none.
pub fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .fold(None, |extent, value| match extent {
            None => Some((value, value)),
            Some((low, high)) => Some((low.min(value), high.max(value))),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, count: usize, whole: bool) -> Vec<String> {
        Scale::linear(low, high)
            .ticks(count, whole)
            .into_iter()
            .map(|tick| tick.label)
            .collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(0.0, 10.0, 5, false), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            labels(47.3, 58.1, 5, false),
            ["47.5", "50.0", "52.5", "55.0", "57.5"]
        );
        assert_eq!(
            labels(-0.11, 0.12, 5, false),
            ["−0.10", "−0.05", "0.00", "0.05", "0.10"]
        );
        assert_eq!(labels(1.0, 3.0, 8, true), ["1", "2", "3"]);
        assert_eq!(
            labels(0.0, 800.0, 4, true),
            ["0", "200", "400", "600", "800"]
        );
        assert!(!labels(5.0, 5.0, 4, false).is_empty());
        // Epochs are whole: 2.5 is no epoch.
        assert_eq!(labels(0.0, 10.0, 4, true), ["0", "5", "10"]);
        assert_eq!(labels(0.0, 100.0, 4, true), ["0", "25", "50", "75", "100"]);
    }

    #[test]
    fn logarithmic_ticks_are_round() {
        let labels = |low: f64, high: f64, count: usize| -> Vec<String> {
            let ticks = Scale::log(low, high).ticks(count, false);
            ticks.into_iter().map(|tick| tick.label).collect()
        };
        assert_eq!(labels(0.9, 12.0, 6), ["1", "2", "5", "10"]);
        assert_eq!(labels(0.04, 0.3, 6), ["0.05", "0.1", "0.2"]);
        assert_eq!(labels(1.0, 1e6, 4), ["1", "100", "10000", "1000000"]);
        // Less than a factor of two: divided evenly.
        assert_eq!(labels(6.1, 7.9, 4), ["6.5", "7.0", "7.5"]);
    }

    #[test]
    fn values_map_to_pixels() {
        let scale = Scale::linear(0.0, 10.0).over(100.0, 0.0);
        assert_eq!(
            (scale.at(0.0), scale.at(5.0), scale.at(10.0)),
            (100.0, 50.0, 0.0)
        );
        let log = Scale::log(1.0, 100.0).over(0.0, 10.0);
        assert!((log.at(10.0) - 5.0).abs() < 1e-12);
        assert_eq!(extent([f64::NAN, 2.0, -1.0]), Some((-1.0, 2.0)));
        assert_eq!(extent([f64::INFINITY]), None);
    }
}
